"""How a command connects to the service, and the options for that."""

from __future__ import annotations

import os
import shlex
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import click

from b2b_payments._cli import values
from b2b_payments._cli.command import OUTCOME_UNKNOWN, USAGE, CommandError, StoppedError, option_group, run
from b2b_payments._cli.output import show
from b2b_payments._cli.streams import require_output

if TYPE_CHECKING:
    from b2b_payments._client import PaymentsClient
    from b2b_payments._quota import Quota
    from b2b_payments._retry import RetryPolicy
    from b2b_payments.events import Event, Listener


@dataclass(frozen=True, repr=False)
class WriteResult:
    """The result of a write: the object to print, and a sentence that says that it was done."""

    output: Mapping[str, Any]
    sentence: str


@dataclass(frozen=True, repr=False)
class Connection:
    """The values of the connection options, None for those left out.

    With `sandbox`, the command starts a sandbox and connects to that.
    """

    base_url: str | None
    quota_option: Quota | Literal["none"] | None
    outage: float | None = None
    sandbox: bool = False

    def __post_init__(self) -> None:
        if self.sandbox and self.base_url is not None:
            raise click.UsageError("--sandbox starts its own service: leave --base-url out.")

    def check_many_stores(self) -> None:
        """Raise UsageError for options that are only for a single store."""
        if self.sandbox:
            raise click.UsageError("--sandbox is a single store: leave --stores out.")
        if self.quota_option == "none":
            raise click.UsageError("--quota none is only for a single store: leave --stores out.")

    @property
    def quota(self) -> Quota | None:
        """The quota to observe, or None for no quota."""
        from b2b_payments._quota import Quota

        return None if self.quota_option == "none" else self.quota_option or Quota()

    @property
    def retry(self) -> RetryPolicy:
        """How long to retry while the service is down."""
        from b2b_payments._retry import RetryPolicy

        return RetryPolicy() if self.outage is None else RetryPolicy(outage=self.outage)

    @property
    def settings(self) -> dict[str, Any]:
        """The keyword arguments for a client. Raises CommandError for a bad B2B_PAYMENTS_BASE_URL."""
        variable = "B2B_PAYMENTS_BASE_URL"
        address = None if self.base_url is not None else os.environ.get(variable)
        if address and (problem := values.problem_with_base_url(address)):
            raise CommandError(f"{variable}: {problem}", USAGE)
        url: dict[str, Any] = {} if self.base_url is None else {"base_url": self.base_url}
        return {"trust_env": True, "quota": self.quota, "retry": self.retry} | url

    async def enter(self, stack: AsyncExitStack, on_event: Listener) -> PaymentsClient:
        """Open a client with the credential in the environment, or start a sandbox and connect to it."""
        from b2b_payments._client import PaymentsClient

        settings = self.settings | {"on_event": on_event}
        if not self.sandbox:
            return await stack.enter_async_context(PaymentsClient.from_env(**settings))
        from b2b_payments.sandbox import Sandbox

        try:  # a fixed port, so that exports can be resumed
            sandbox = await stack.enter_async_context(Sandbox(payments=10_000, port=_PORT))
        except OSError:
            sandbox = await stack.enter_async_context(Sandbox(payments=10_000))
        settings["base_url"] = sandbox.base_url
        return await stack.enter_async_context(PaymentsClient(sandbox.auth, **settings))

    def write(
        self,
        work: Callable[[PaymentsClient], Awaitable[WriteResult]],
        effect: str,
        check: str,
        *,
        lags: bool = False,
    ) -> None:
        """Do a write and print its result, as `call` does.

        `effect` ("payment 7 was deleted") is what is not known if the command is stopped halfway. If the
        outcome is unknown, the error names `check`, the command that shows it: with `lags`, after a while.
        """
        interrupted: list[Event] = []
        results: list[WriteResult] = []

        def on_event(event: Event) -> None:
            from b2b_payments.events import WriteInterrupted

            if isinstance(event, WriteInterrupted):
                interrupted.append(event)

        async def write(client: PaymentsClient) -> None:
            result = await work(client)
            results.append(result)
            await show([result.output], done=result.sentence)

        address = "" if self.base_url is None else f" --base-url {shlex.quote(self.base_url)}"
        when = " in 20 minutes (lists may lag)" if lags else ""
        hint = f"before you repeat the command, check{when}: `b2b-payments {check}{address}`"
        try:
            self.call(write, on_event)
        except StoppedError as stopped:
            if results:
                stopped.outcome = f": {results[0].sentence}"
            elif interrupted:
                stopped.outcome = f" after the request was sent. It is not known whether {effect}; {hint}"
            else:
                stopped.outcome = ": nothing was changed"
            raise
        except CommandError as failure:
            if failure.exit_code != OUTCOME_UNKNOWN:
                raise
            raise CommandError(f"{failure} So {hint}.", OUTCOME_UNKNOWN) from None

    def call(
        self, work: Callable[[PaymentsClient], Awaitable[None]], on_event: Listener = lambda _: None
    ) -> None:
        """Run `work`, which prints its result, with an open client.

        Raises OutputError before anything is sent if standard output is closed.
        """
        require_output()

        async def call() -> None:
            from b2b_payments._cli.waits import waits_shown

            with waits_shown() as show_wait:

                def listen(event: Event) -> None:
                    on_event(event)
                    show_wait(event)

                async with AsyncExitStack() as stack:
                    await work(await self.enter(stack, listen))

        run(call)


_PORT = 21_427
_OPTIONS = (
    click.option(
        "--base-url",
        metavar="URL",
        type=values.base_url,
        help="The service's address. [B2B_PAYMENTS_BASE_URL]",
    ),
    click.option(
        "--quota",
        "quota_option",
        metavar="N/SECONDS",
        type=values.quota,
        help="Send at most N requests in any SECONDS; 'none' for no limit. [150/60]",
    ),
)


connection_options = option_group("connection", Connection, _OPTIONS)
"""Adds the connection options to a command, passed to it as one argument `connection`."""

outage_option = click.option(
    "--outage",
    metavar="SECONDS",
    type=values.Number(0, 86_400),
    help="How long to retry pages while the service is down. [300]",
)
"""For commands with `connection_options` that read pages."""
sandbox_option = click.option(
    "--sandbox", is_flag=True, help="Use the built-in sandbox of 10,000 payments; needs no credential."
)
"""For commands with `connection_options`."""
