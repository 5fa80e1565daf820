"""A strict stand-in for Apple's gateways, for users and for tests."""
