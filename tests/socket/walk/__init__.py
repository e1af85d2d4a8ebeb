"""Exact walks, on a real socket."""
