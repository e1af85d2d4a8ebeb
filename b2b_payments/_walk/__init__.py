"""The exact walk over a list that changes while it is read: planned purely, fetched thinly."""
