"""The entry point of `b2b-payments`, and of `python -m b2b_payments.cli`, which older schedules use."""

from __future__ import annotations

import signal
import sys
from importlib import import_module


def main() -> None:
    """Run the command line, or exit with what to install if the extra `cli` is missing."""
    # Until a command has something to clean up, Ctrl-C ends the process without a traceback, unless whoever
    # started it had Ctrl-C ignored, as shells do for a script's commands in the background.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        for name in ("click", "rich"):
            import_module(name)
    except ModuleNotFoundError as error:
        sys.exit(f"Error: {error.name} is not installed: pip install 'b2b-payments[cli]'")

    from b2b_payments._cli.command import on_signals
    from b2b_payments._cli.program import program

    try:
        program(prog_name="b2b-payments")
    finally:
        on_signals(signal.SIG_IGN)  # output and exit code do not change any more


if __name__ == "__main__":
    main()
