"""Tests of the resources without a socket."""
