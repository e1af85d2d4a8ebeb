"""How a command reaches the service."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from b2b_payments._cli import values
from b2b_payments._cli.command import Handler, with_options
from b2b_payments._cli.running import run
from b2b_payments._cli.streams import require_output

if TYPE_CHECKING:
    from b2b_payments._client import PaymentsClient
    from b2b_payments._quota import Quota
    from b2b_payments._retry import RetryPolicy


@dataclass(frozen=True)
class Connection:
    """The address, the quota and the patience that a command was given, None for what it was not."""

    base_url: str | None
    quota: Quota | None
    outage: float | None = None

    @property
    def retry(self) -> RetryPolicy:
        """How long a command puts up with a service that is down."""
        from b2b_payments._retry import RetryPolicy

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
            from b2b_payments._cli.waits import waits_told
            from b2b_payments._client import PaymentsClient

            with waits_told() as listen:
                async with PaymentsClient.from_env(**self.settings, on_event=listen) as client:
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
        type=values.Number(min=0, max=86_400),
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
