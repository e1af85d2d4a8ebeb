"""Tests without a socket."""
