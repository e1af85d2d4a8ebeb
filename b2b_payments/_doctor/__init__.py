"""What a store's service really does, found out by reads alone, and what that means for this library."""
