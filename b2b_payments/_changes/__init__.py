"""What changed: the one place that reads it."""
