"""The world to events: what spoold hears."""

LATEST = 1 << 14  # names that a doorbell tells: as many as the kernel keeps
