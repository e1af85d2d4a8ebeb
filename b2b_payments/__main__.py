"""Runs the command line."""

from __future__ import annotations

from b2b_payments.cli import main

if __name__ == "__main__":
    main()
