"""What is due, who may send, and what became of it."""
