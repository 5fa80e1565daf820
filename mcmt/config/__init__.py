"""The YAML file, read into frozen settings; every fault with its place."""
