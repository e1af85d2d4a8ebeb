"""Options that commands share: which payments, which stores, and how much to print."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from b2b_payments._cli import values
from b2b_payments._cli.command import Handler, option_group, option_with_default, with_names
from b2b_payments._cli.values import AT_LEAST_ONE, moment, not_blank
from b2b_payments._errors import ConfigurationError

if TYPE_CHECKING:
    from b2b_payments.export._selection import Selection

_SEARCH_FIELDS = ("id", "customerId", "externalId", "externalCustomerId")
_FILTERS = (
    click.option(
        "--channel",
        "channel_ids",
        metavar="ID",
        type=AT_LEAST_ONE,
        multiple=True,
        help="Only this channel, by its channelId; may be repeated.",
    ),
    click.option(
        "--status",
        "processing_status",
        metavar="STATUS",
        type=values.status,
        help="Only this processing status; name or number.",
    ),
    click.option("--customer-name", metavar="TEXT", type=not_blank, help="Part of the company's name."),
    click.option(
        "--invoice", "invoice_id", metavar="ID", type=AT_LEAST_ONE, help="Only payments of this invoice."
    ),
    click.option("--q", metavar="TEXT", type=not_blank, help="Keywords to search for."),
    click.option("--search-by", type=click.Choice(_SEARCH_FIELDS), help="Field that --q searches. [all]"),
    click.option(
        "--since", metavar="TIME", type=moment, help="Created at this date or time (UTC) or later. [first]"
    ),
    click.option(
        "--until", metavar="TIME", type=moment, help="Created before this date or time (UTC). [last]"
    ),
    option_with_default(
        "--page-size", metavar="ROWS", type=AT_LEAST_ONE, default=250, help="Payments per request."
    ),
    option_with_default(
        "--concurrency",
        metavar="N",
        type=AT_LEAST_ONE,
        default=8,
        help="Maximum number of requests in flight.",
    ),
)

overlap_option = option_with_default(
    "--overlap",
    metavar="MINUTES",
    type=values.Number(0, 527_040),
    default=30,
    help="How far back to read again: at least as long as the service's lists lag behind.",
)


FILTER_OPTIONS = {
    "channel_ids": "--channel",
    "processing_status": "--status",
    "customer_name": "--customer-name",
    "invoice_id": "--invoice",
    "search_by": "--search-by",
    "created_from": "--since",
    "created_to": "--until",
}
"""The options of filters whose names in Python are others."""


def _selection(
    channel_ids: tuple[int, ...],
    since: datetime | None,
    until: datetime | None,
    page_size: int,
    concurrency: int,
    **filters: Any,
) -> Selection:
    if filters["search_by"] is not None and filters["q"] is None:
        raise click.UsageError("--search-by needs --q, the text to search for.")
    from b2b_payments._protocol.query import PaymentQuery
    from b2b_payments._walk.period import Period
    from b2b_payments.export._selection import Selection

    try:
        query = PaymentQuery(channel_ids=channel_ids or None, **filters)
        period = Period(since, until)
    except ConfigurationError as error:
        raise click.UsageError(with_names(str(error), FILTER_OPTIONS, count=2)) from None
    return Selection(query, page_size, concurrency, period)


filter_options = option_group("selection", _selection, _FILTERS)
"""Adds the filters of the list, page size and concurrency, passed as one argument `selection`."""

_STORES = (
    click.option(
        "--stores",
        metavar="FILE",
        type=not_blank,
        help="TOML file that lists the stores; each gets its own output.",
    ),
    click.option(
        "--only",
        metavar="NAME",
        type=not_blank,
        multiple=True,
        help="With --stores, only this store; may be repeated.",
    ),
    click.option(
        "--shard",
        metavar="I/N",
        type=values.shard,
        help="With --stores, only part I of N; a store's name decides its part.",
    ),
    click.option("--at-once", metavar="N", type=AT_LEAST_ONE, help="Stores in parallel, per process. [8]"),
)
_DASK = (
    click.option(
        "--dask",
        metavar="ADDRESS",
        type=not_blank,
        help="Export --stores on this Dask scheduler's workers; 'local' starts a cluster here.",
    ),
    click.option("--workers", metavar="N", type=AT_LEAST_ONE, help="Processes of --dask local. [1 per CPU]"),
)


@dataclass(frozen=True, repr=False)
class Fleet:
    """The values of the options for many stores."""

    path: str
    only: tuple[str, ...]
    shard: tuple[int, int] | None
    at_once: int
    dask: str | None = None
    workers: int | None = None


def _fleet(stores: str | None, **rest: Any) -> Fleet | None:
    if stores is None:
        if name := next((name for name, value in rest.items() if value), None):
            option = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{option} needs --stores, the file that lists the stores.")
        return None
    if rest.get("workers") is not None and rest["dask"] != "local":
        raise click.UsageError("--workers is only for --dask local.")
    return Fleet(stores, **rest | {"at_once": rest["at_once"] or 8})


def fleet_options(*, with_dask: bool) -> Callable[[Handler], Handler]:
    """Add the options for many stores, passed as one argument `fleet`: None without --stores."""
    return option_group("fleet", _fleet, _STORES + (_DASK if with_dask else ()))


@dataclass(frozen=True, repr=False)
class Verbosity:
    """How much to print: `quiet` means only failures, `verbose` all details of the walk.

    With `log`, log lines go to standard error, so there is no display that redraws itself.
    """

    quiet: bool = False
    verbose: bool = False
    log: bool = False

    def summarize(
        self, file: str, report: object, seconds: float, *, details: str = "", rest: str = ""
    ) -> None:
        """Print the summary line to standard error, with `details` in parentheses, unless quiet."""
        if not self.quiet:
            details = f" ({details})" if details else ""
            click.echo(f"{file}: {with_duration(report, seconds)}{details}.{rest}", err=True)


def with_duration(report: object, seconds: float) -> str:
    """Return a report's line with its duration, inserted before any caveat."""
    figures, separator, caveat = str(report).partition("; ")
    duration = f"{seconds:.1f} s" if seconds < 60 else clock(seconds)
    return f"{figures}, {duration}{separator}{caveat}"


def clock(seconds: float) -> str:
    """Format a duration as hours:minutes:seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


_VERBOSITY = (
    click.option("-q", "--quiet", is_flag=True, help="Print only failures and what is not complete."),
    click.option("-v", "--verbose", is_flag=True, help="Add the details of the walk to the summary."),
    click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
        help="Log the client's events to standard error, from this level up.",
    ),
)


def _log_to_stderr(level: str) -> None:
    logger, handler = logging.getLogger("b2b_payments"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level_before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level.upper())

    def restore() -> None:
        logger.removeHandler(handler)
        logger.setLevel(level_before)

    click.get_current_context().call_on_close(restore)


def _verbosity(quiet: bool, verbose: bool, log_level: str | None) -> Verbosity:
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose contradict each other: give only one.")
    if log_level is not None:
        _log_to_stderr(log_level)
    return Verbosity(quiet, verbose, log=log_level is not None)


verbosity_options = option_group("verbosity", _verbosity, _VERBOSITY)
"""Adds the options that say how much to print, passed as one argument `verbosity`."""
