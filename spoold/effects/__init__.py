"""Actions to the world: what spoold does."""
