"""The entry of `b2b-payments` and of `python -m b2b_payments.cli`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. Says what to install where the extra `cli` is missing."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ModuleNotFoundError as error:
        sys.exit(f"Error: {error.name} is not installed: pip install 'b2b-payments[cli]'")

    from b2b_payments.cli.program import program

    program(prog_name="b2b-payments")


if __name__ == "__main__":
    main()
