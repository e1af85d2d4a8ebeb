"""Run the command line: `python -m b2b_payments`."""

from __future__ import annotations

from b2b_payments.cli import main

if __name__ == "__main__":
    main()
