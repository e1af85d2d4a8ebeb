"""The exact walk."""
