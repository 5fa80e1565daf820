"""What keeps messages, deliveries and events, and the guarantees about them."""
