"""How much a long command tells on standard error: nothing, how it goes, or its whole account and a log."""

from __future__ import annotations

import functools
import logging
import sys
from dataclasses import dataclass
from typing import Any

import click

from b2b_payments._cli.command import Handler, with_options

_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, repr=False)
class Telling:
    """What was asked for: `quiet` tells of failures alone, `verbose` of all that the walk took.

    With a `log`, its lines take the place of a display that draws over itself.
    """

    quiet: bool = False
    verbose: bool = False
    log: bool = False

    def conclude(
        self, file: str, report: object, seconds: float, *, account: str = "", rest: str = ""
    ) -> None:
        """Tell what came of it in a line; `account` is what was verbose."""
        if not self.quiet:
            account = f" ({account})" if account else ""
            click.echo(f"{file}: {timed(report, seconds)}{account}.{rest}", err=True)


def timed(report: object, seconds: float) -> str:
    """Give a report's line with the time that it took, in front of whatever is wrong."""
    figures, separator, caveat = str(report).partition("; ")
    return f"{figures}, {duration(seconds)}{separator}{caveat}"


def duration(seconds: float) -> str:
    """Write a time: in seconds, or from a minute on in hours, minutes and seconds."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


_OPTIONS = (
    click.option(
        "-q", "--quiet", is_flag=True, help="Tell of nothing but failures, and what is not complete."
    ),
    click.option("-v", "--verbose", is_flag=True, help="End with the whole account of the walk."),
    click.option(
        "--log-level",
        type=click.Choice(_LEVELS, case_sensitive=False),
        help="Log what the client does to standard error, from this level on.",
    ),
)


def telling_options(function: Handler) -> Handler:
    """Give a command the options of how much it tells, as one argument `telling`."""

    @functools.wraps(function)
    def told(*args: Any, quiet: bool, verbose: bool, log_level: str | None, **others: Any) -> None:
        if quiet and verbose:
            raise click.UsageError("--quiet and --verbose contradict each other: give one of them.")
        if log_level is not None:
            _log(log_level)
        function(*args, telling=Telling(quiet, verbose, log=log_level is not None), **others)

    return with_options(told, _OPTIONS)


def _log(level: str) -> None:
    logger, handler = logging.getLogger("b2b_payments"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level.upper())

    def end() -> None:
        logger.removeHandler(handler)
        logger.setLevel(before)

    click.get_current_context().call_on_close(end)
