"""All that the author of a channel needs to know."""
