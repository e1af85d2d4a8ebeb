"""Tests over a real socket of this machine."""
