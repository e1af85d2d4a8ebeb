"""Reading what changed in a store."""
