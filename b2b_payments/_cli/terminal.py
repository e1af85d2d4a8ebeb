"""Terminals: whether one can redraw lines, and a console that draws on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn, TextIO

from rich.console import Console, RenderableType
from rich.live import Live

from b2b_payments._cli.streams import bare

_PLAIN = frozenset({"dumb", "unknown"})


def can_draw() -> bool:
    """Whether standard error is a terminal that can redraw lines."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in _PLAIN


class _Console(Console):
    """A console that raises BrokenPipeError, where rich would end the program."""

    def on_broken_pipe(self) -> NoReturn:
        raise  # noqa: PLE0704 - rich calls this while it handles a BrokenPipeError


def console_on(stream: TextIO) -> Console:
    """Return a console for a standard stream: in color and as wide as the terminal, if it is one."""
    return _Console(file=bare(stream), highlight=False, markup=False)


def live(render: Callable[[int], RenderableType]) -> Live:
    """Return a display on standard error that redraws what `render` returns for the terminal's width."""
    console = console_on(sys.stderr)
    return Live(
        console=console,
        transient=True,
        refresh_per_second=10,
        get_renderable=lambda: render(console.width),
    )
