"""The tests: unit (no socket), socket (a real local server), property (hypothesis)."""
