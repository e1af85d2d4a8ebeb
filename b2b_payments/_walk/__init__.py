"""The exact walk over a list that changes while it is read: pure planning, and a thin layer that fetches."""
