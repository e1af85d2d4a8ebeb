"""Tests that keep a copy in sync with a sandbox."""
