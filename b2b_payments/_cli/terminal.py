"""Terminals, for what is more than lines."""

from __future__ import annotations

import os
import sys
from typing import NoReturn, TextIO

from rich.console import Console

from b2b_payments._cli.streams import bare

_PLAIN = frozenset({"dumb", "unknown"})


def can_draw() -> bool:
    """Whether standard error is a terminal on which lines can be drawn over."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in _PLAIN


class _Console(Console):
    """A console that says when nobody reads any more, instead of ending the program."""

    def on_broken_pipe(self) -> NoReturn:
        """Raise the error that is being handled."""
        raise  # noqa: PLE0704 - rich calls this while it handles a BrokenPipeError


def console_on(stream: TextIO) -> Console:
    """Return what draws on a standard stream: in color and as wide as the terminal, if it is one."""
    return _Console(file=bare(stream), highlight=False, markup=False)
