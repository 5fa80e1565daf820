"""Several processes as one engine: what supervisor and workers say to each other, and who starts whom."""
