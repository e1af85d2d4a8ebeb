"""Tests of exports from a sandbox."""
