"""How a command reaches the service."""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from b2b_payments.cli import values
from b2b_payments.cli.command import Handler, with_options
from b2b_payments.cli.running import run
from b2b_payments.cli.streams import require_output

if TYPE_CHECKING:
    from b2b_payments.client import PaymentsClient
    from b2b_payments.events import Event
    from b2b_payments.quota import Quota
    from b2b_payments.retry import RetryPolicy


@dataclass(frozen=True)
class Connection:
    """The address, the quota and the patience that a command was given, None for what it was not."""

    base_url: str | None
    quota: Quota | None
    outage: float | None = None

    @property
    def retry(self) -> RetryPolicy:
        """How long a command puts up with a service that is down."""
        from b2b_payments.retry import RetryPolicy

        return RetryPolicy() if self.outage is None else RetryPolicy(outage=self.outage)

    @property
    def settings(self) -> dict[str, Any]:
        """The parameters for a client."""
        given = {"base_url": self.base_url, "quota": self.quota, "retry": self.retry}
        return {"trust_env": True} | {name: value for name, value in given.items() if value is not None}

    def call(self, work: Callable[[PaymentsClient], Awaitable[None]]) -> None:
        """Do the work with a client whose credential comes from the environment, and print the result.

        Raises OutputError where there is no standard output, before anything is sent.
        """
        require_output()

        async def call() -> None:
            from b2b_payments.client import PaymentsClient

            on_event = _tell if sys.stderr.isatty() else None
            async with PaymentsClient.from_env(**self.settings, on_event=on_event) as client:
                await work(client)

        run(call)


_OPTIONS = (
    click.option("--base-url", metavar="URL", help="Where the service is. [B2B_PAYMENTS_BASE_URL]"),
    click.option(
        "--quota",
        metavar="N/SECONDS",
        type=values.quota,
        help="Requests that the store allows in so many seconds. [150/60]",
    ),
    click.option(
        "--outage",
        metavar="SECONDS",
        type=click.FloatRange(min=0, max=86_400),
        help="How long pages are tried again while the service is down. [300]",
    ),
)


def connection_options(function: Handler) -> Handler:
    """Give a command the options of a connection, as one argument `connection`."""

    @functools.wraps(function)
    def connected(
        *args: Any, base_url: str | None, quota: Quota | None, outage: float | None, **others: Any
    ) -> None:
        function(*args, connection=Connection(base_url, quota, outage), **others)

    return with_options(connected, _OPTIONS)


def patience(event: Event) -> str | None:
    """Say in words what the client is waiting for; None where it is not."""
    from b2b_payments.events import QuotaWait, RetryScheduled

    if isinstance(event, RetryScheduled):
        return f"attempt {event.attempt} failed ({event.reason}), the next in {event.delay:.1f} s"
    # A wait for an answer under way is a matter of milliseconds.
    if isinstance(event, QuotaWait) and event.reason != "in flight":
        return f"waiting {event.seconds:.0f} s for the store's quota"
    return None


def _tell(event: Event) -> None:
    if (words := patience(event)) is not None:
        click.echo(f"{words[0].upper()}{words[1:]}.", err=True)
