"""How a command reaches the service."""

from __future__ import annotations

import functools
import os
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import click

from b2b_payments._cli import values
from b2b_payments._cli.command import (
    OUTCOME_UNKNOWN,
    USAGE,
    CommandError,
    Handler,
    StoppedError,
    run,
    with_options,
)
from b2b_payments._cli.streams import require_output

if TYPE_CHECKING:
    from b2b_payments._client import PaymentsClient
    from b2b_payments._quota import Quota
    from b2b_payments._retry import RetryPolicy
    from b2b_payments.events import Event, Listener
    from b2b_payments.sandbox import Sandbox


@dataclass(frozen=True, repr=False)
class Written:
    """What came of a write: the object to print, and a sentence that says that it was carried out."""

    result: Mapping[str, Any]
    sentence: str


@dataclass(frozen=True, repr=False)
class Connection:
    """The address, the quota and the patience that a command was given, None for what it was not.

    With `sandbox` it leads to a made-up store on this machine.
    """

    base_url: str | None
    stated_quota: Quota | Literal["none"] | None
    outage: float | None = None
    sandbox: bool = False

    @property
    def quota(self) -> Quota | None:
        """The quota that is kept to; None where none is."""
        from b2b_payments._quota import Quota

        return None if self.stated_quota == "none" else self.stated_quota or Quota()

    @property
    def retry(self) -> RetryPolicy:
        """How long a command puts up with a service that is down."""
        from b2b_payments._retry import RetryPolicy

        return RetryPolicy() if self.outage is None else RetryPolicy(outage=self.outage)

    @property
    def settings(self) -> dict[str, Any]:
        """The parameters for a client."""
        variable = "B2B_PAYMENTS_BASE_URL"
        address = None if self.base_url is not None else os.environ.get(variable)
        if address and (problem := values.problem_with_base_url(address)):
            raise CommandError(f"{variable}: {problem}", USAGE)
        given: dict[str, Any] = {} if self.base_url is None else {"base_url": self.base_url}
        return {"trust_env": True, "quota": self.quota, "retry": self.retry} | given

    async def enter(self, stack: AsyncExitStack, on_event: Listener) -> PaymentsClient:
        """Open a client, whose credential comes from the environment, or the sandbox and one for it."""
        from b2b_payments._client import PaymentsClient

        settings = self.settings | {"on_event": on_event}
        if not self.sandbox:
            return await stack.enter_async_context(PaymentsClient.from_env(**settings))
        made_up = await stack.enter_async_context(_made_up_store())
        settings["base_url"] = made_up.base_url
        return await stack.enter_async_context(PaymentsClient(made_up.auth, **settings))

    def write(
        self,
        work: Callable[[PaymentsClient], Awaitable[Written]],
        what: str,
        look: str,
        *,
        lags: bool = False,
    ) -> None:
        """Carry out a write and print its result, as `call` does.

        `what` says that it was carried out, and `look` is the command that shows it to those who were left
        in doubt: it may take a while to show where it `lags`.
        """
        interrupted: list[Event] = []
        written: list[Written] = []

        def note(event: Event) -> None:
            from b2b_payments.events import WriteInterrupted

            if isinstance(event, WriteInterrupted):
                interrupted.append(event)

        async def write(client: PaymentsClient) -> None:
            from b2b_payments._cli.output import show

            one = await work(client)
            written.append(one)
            await show([one.result], done=one.sentence)

        address = "" if self.base_url is None else f" --base-url {shlex.quote(self.base_url)}"
        when = " in 20 minutes, since lists may lag," if lags else ""
        hint = f"look before you give it again{when} (b2b-payments {look}{address})"
        try:
            self.call(write, note)
        except StoppedError as stopped:
            if written:
                stopped.left = f": {written[0].sentence}"
            elif interrupted:
                stopped.left = f" after the request was sent: whether {what} is not known; {hint}"
            else:
                stopped.left = ": nothing was changed"
            raise
        except CommandError as failure:
            if failure.exit_code != OUTCOME_UNKNOWN:
                raise
            raise CommandError(f"{failure} To know, {hint}.", OUTCOME_UNKNOWN) from None

    def call(
        self,
        work: Callable[[PaymentsClient], Awaitable[None]],
        on_event: Listener = lambda _: None,
    ) -> None:
        """Do the work with a client whose credential comes from the environment, and print the result.

        Raises OutputError where there is no standard output, before anything is sent.
        """
        require_output()

        async def call() -> None:
            from b2b_payments._cli.waits import waits_told

            with waits_told() as listen:

                def tell(event: Event) -> None:
                    on_event(event)
                    listen(event)

                async with AsyncExitStack() as stack:
                    await work(await self.enter(stack, tell))

        run(call)


@asynccontextmanager
async def _made_up_store() -> AsyncIterator[Sandbox]:
    """Yield a running sandbox, at the same address each time if it is free: so exports can be resumed."""
    from b2b_payments.sandbox import Sandbox

    sandbox = Sandbox(payments=10_000, port=_PORT)
    try:
        await sandbox.start()
    except OSError:
        sandbox = Sandbox(payments=10_000)
        await sandbox.start()
    try:
        yield sandbox
    finally:
        await sandbox.stop()


_PORT = 21_427
_OPTIONS = (
    click.option(
        "--base-url",
        metavar="URL",
        type=values.base_url,
        help="Where the service is. [B2B_PAYMENTS_BASE_URL]",
    ),
    click.option(
        "--quota",
        metavar="N/SECONDS",
        type=values.quota,
        help="Requests that the store allows in so many seconds; none keeps to nothing. [150/60]",
    ),
    click.option(
        "--outage",
        metavar="SECONDS",
        type=values.Number(0, 86_400),
        help="How long pages are tried again while the service is down. [300]",
    ),
)


def connection_options(function: Handler) -> Handler:
    """Return a command the options of a connection, as one argument `connection`."""

    @functools.wraps(function)
    def connected(
        *args: Any,
        base_url: str | None,
        quota: Quota | Literal["none"] | None,
        outage: float | None,
        **others: Any,
    ) -> None:
        function(*args, connection=Connection(base_url, quota, outage), **others)

    return with_options(connected, _OPTIONS)


def sandbox_option(function: Handler) -> Handler:
    """Return a command that takes a connection the option --sandbox."""

    @click.option(
        "--sandbox", is_flag=True, help="Of a made-up store of 10,000 payments: needs no credential."
    )
    @functools.wraps(function)
    def sandboxed(*args: Any, connection: Connection, sandbox: bool, **others: Any) -> None:
        if sandbox and connection.base_url is not None:
            raise click.UsageError("--sandbox is a service of its own: leave --base-url out.")
        function(*args, connection=replace(connection, sandbox=sandbox), **others)

    return sandboxed
