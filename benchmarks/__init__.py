"""Benchmarks: each module prints one table of measured figures, as ratios within one run."""
