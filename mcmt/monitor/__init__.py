"""What other machines may see of the engine: counts, health, alerts."""
