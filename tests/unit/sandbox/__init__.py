"""Tests of the sandbox's parts."""
