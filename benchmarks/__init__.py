"""Benchmarks: each module prints a table of figures, as ratios within one run."""
