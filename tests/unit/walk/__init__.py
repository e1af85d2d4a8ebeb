"""The parts of an exact walk."""
