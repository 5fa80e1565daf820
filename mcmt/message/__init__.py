"""What a message is: values, and pure functions from bytes to values."""
