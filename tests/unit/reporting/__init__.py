"""Tests of the parts of reports."""
