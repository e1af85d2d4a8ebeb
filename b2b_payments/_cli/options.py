"""Options that commands share: which payments, which stores, and how much to tell."""

from __future__ import annotations

import functools
import logging
import sys
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click

from b2b_payments._cli import values
from b2b_payments._cli.command import Handler, with_options
from b2b_payments._cli.values import AT_LEAST_ONE, MOMENT, TEXT

_SEARCHED = ("id", "customerId", "externalId", "externalCustomerId")
_FILTERS = (
    click.option(
        "--channel", "channels", metavar="ID", type=AT_LEAST_ONE, multiple=True, help="May be repeated."
    ),
    click.option(
        "--status", metavar="STATUS", type=values.status, help="Processing status, by name or number."
    ),
    click.option("--customer-name", metavar="TEXT", type=TEXT, help="Part of the company's name."),
    click.option("--invoice", metavar="ID", type=AT_LEAST_ONE, help="An invoice that is paid."),
    click.option("--q", metavar="TEXT", type=TEXT, help="Keywords to search for."),
    click.option("--search-by", type=click.Choice(_SEARCHED), help="Where to search for --q. [everywhere]"),
    click.option(
        "--since", metavar="TIME", type=MOMENT, help="Created then or later: a date or a time, UTC. [first]"
    ),
    click.option("--until", metavar="TIME", type=MOMENT, help="Created before then. [last]"),
    click.option("--page-size", metavar="ROWS", type=AT_LEAST_ONE, default=250, show_default=True),
    click.option(
        "--concurrency",
        metavar="N",
        type=AT_LEAST_ONE,
        default=8,
        show_default=True,
        help="Requests in flight at most.",
    ),
)

overlap_option = click.option(
    "--overlap",
    metavar="MINUTES",
    type=values.Number(0, 527_040),
    default=30,
    show_default=True,
    help="How far to read back beyond what was read before: at least as long as the service's lists lag.",
)


def filter_options(function: Handler) -> Handler:
    """Return a command the list's filters and how to read, as one argument `asked`."""

    @functools.wraps(function)
    def filtered(
        *args: Any,
        channels: tuple[int, ...],
        status: int | None,
        customer_name: str | None,
        invoice: int | None,
        q: str | None,
        search_by: str | None,
        since: datetime | None,
        until: datetime | None,
        page_size: int,
        concurrency: int,
        **others: Any,
    ) -> None:
        if search_by is not None and q is None:
            raise click.UsageError("--search-by says where to search: give --q too, what for.")
        from b2b_payments._errors import ConfigurationError
        from b2b_payments._protocol.query import PaymentQuery
        from b2b_payments._walk.period import Period
        from b2b_payments.export._selection import Selection

        try:
            query = PaymentQuery(
                channel_ids=channels or None,
                processing_status=status,
                customer_name=customer_name,
                invoice_id=invoice,
                q=q,
                search_by=search_by,
            )
            period = Period(since, until)
        except ConfigurationError as error:
            raise click.UsageError(str(error)) from None
        function(*args, asked=Selection(query, page_size, concurrency, period), **others)

    return with_options(filtered, _FILTERS)


_STORES = (
    click.option(
        "--stores",
        metavar="FILE",
        type=TEXT,
        help="The stores of a TOML file, each with its own file.",
    ),
    click.option(
        "--only",
        metavar="NAME",
        type=TEXT,
        multiple=True,
        help="Of --stores, this one alone. May be repeated.",
    ),
    click.option(
        "--shard",
        metavar="I/N",
        type=values.shard,
        help="Of --stores, those that belong to this part of so many, by their names.",
    ),
    click.option("--at-once", metavar="N", type=AT_LEAST_ONE, help="Stores at once in each process. [8]"),
    click.option(
        "--dask",
        metavar="ADDRESS",
        type=TEXT,
        help="Export --stores on the workers of this Dask scheduler, or of a cluster of its own: local.",
    ),
    click.option("--workers", metavar="N", type=AT_LEAST_ONE, help="Processes of --dask local. [one a CPU]"),
)


@dataclass(frozen=True, repr=False)
class Fleet:
    """The stores of a file, and how they are exported."""

    path: str
    only: tuple[str, ...]
    shard: tuple[int, int] | None
    at_once: int
    dask: str | None
    workers: int | None


def fleet_options(function: Handler) -> Handler:
    """Return a command the options of many stores as one argument `fleet`, None where it is about one."""

    @functools.wraps(function)
    def chosen(
        *args: Any,
        stores: str | None,
        only: tuple[str, ...],
        shard: tuple[int, int] | None,
        at_once: int | None,
        dask: str | None,
        workers: int | None,
        **others: Any,
    ) -> None:
        given = {"--only": only, "--shard": shard, "--at-once": at_once, "--dask": dask, "--workers": workers}
        if stores is None:
            if option := next((option for option, value in given.items() if value), None):
                raise click.UsageError(f"{option} is about many stores: give --stores too, the file of them.")
            function(*args, fleet=None, **others)
            return
        if workers is not None and dask != "local":
            raise click.UsageError("--workers are processes of this machine: give --dask local too.")
        function(*args, fleet=Fleet(stores, only, shard, at_once or 8, dask, workers), **others)

    return with_options(chosen, _STORES)


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
    """Return a report's line with the time that it took, in front of whatever is wrong."""
    figures, separator, caveat = str(report).partition("; ")
    return f"{figures}, {duration(seconds)}{separator}{caveat}"


def duration(seconds: float) -> str:
    """Write a time: in seconds, or from a minute on in hours, minutes and seconds."""
    return f"{seconds:.1f} s" if seconds < 60 else clock(seconds)


def clock(seconds: float) -> str:
    """Write a time in hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


_TELLING = (
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
    """Return a command the options of how much it tells, as one argument `telling`."""

    @functools.wraps(function)
    def told(*args: Any, quiet: bool, verbose: bool, log_level: str | None, **others: Any) -> None:
        if quiet and verbose:
            raise click.UsageError("--quiet and --verbose contradict each other: give one of them.")
        if log_level is not None:
            _log(log_level)
        function(*args, telling=Telling(quiet, verbose, log=log_level is not None), **others)

    return with_options(told, _TELLING)


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
