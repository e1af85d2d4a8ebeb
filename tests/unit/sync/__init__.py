"""Tests of copies that need no socket."""
