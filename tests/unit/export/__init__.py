"""Tests of the export's parts."""
