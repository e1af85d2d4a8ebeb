"""Tests of the command line, run against a sandbox."""
