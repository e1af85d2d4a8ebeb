"""Finds out how a store's service behaves, using read requests only, and what that means for this library."""
