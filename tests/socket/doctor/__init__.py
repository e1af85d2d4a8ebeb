"""Tests of the doctor on a real socket."""
