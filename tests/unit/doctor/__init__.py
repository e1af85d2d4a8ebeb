"""Tests of what findings make of evidence."""
