"""Tests of the copy that is kept in step, without a socket."""
