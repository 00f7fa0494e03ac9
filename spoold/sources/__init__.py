"""The world to events: what spoold hears."""
