"""What commands have in common: their options, running, signals, errors as sentences, exit codes."""

from __future__ import annotations

import json
import re
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

T = TypeVar("T")
Handler = Callable[..., None]
"""What carries a command out."""

FAILED = 1
USAGE = 2
OUTCOME_UNKNOWN = 3
ALREADY_RUNNING = 4
INTERRUPTED = 128 + signal.SIGINT


class CommandError(Exception):
    """A sentence for standard error, and the exit code."""

    def __init__(self, sentence: str, exit_code: int = FAILED) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class StoppedError(CommandError):
    """SIGINT or SIGTERM ended the command. `left` says what that leaves; the exit code is a shell's."""

    _by: str = "a signal"
    left: str = ""

    def __init__(self, number: int) -> None:
        super().__init__("", 128 + number)
        self._by = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name

    def __str__(self) -> str:
        return f"Stopped by {self._by}{self.left}."


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Run in an event loop until done, or cancelled by SIGINT or SIGTERM.

    Raises CommandError with a sentence for every error of the library, StoppedError for a signal.
    """
    import anyio

    from b2b_payments._errors import (
        AlreadyRunningError,
        AuthenticationError,
        B2BPaymentsError,
        ConfigurationError,
        OutcomeUnknownError,
    )

    try:
        return anyio.run(_until_signal, work)
    except OutcomeUnknownError as error:
        raise CommandError(str(error), OUTCOME_UNKNOWN) from None
    except AuthenticationError as error:
        raise CommandError(
            "The service rejected the credential; check B2B_PAYMENTS_STORE_HASH and "
            f"B2B_PAYMENTS_ACCESS_TOKEN (or B2B_PAYMENTS_AUTH_TOKEN), and its scope: {error}"
        ) from None
    except ConfigurationError as error:
        raise CommandError(_VARIABLE.sub(_variable, str(error)), USAGE) from None
    except AlreadyRunningError as error:
        raise CommandError(str(error), ALREADY_RUNNING) from None
    except B2BPaymentsError as error:
        raise CommandError(str(error)) from None


# A setting that only the environment gives.
_VARIABLE = re.compile(r"^(store_hash|access_token|auth_token)\b")


def _variable(setting: re.Match[str]) -> str:
    return f"B2B_PAYMENTS_{setting[0].upper()}"


async def _until_signal(work: Callable[[], Awaitable[T]]) -> T:
    import asyncio

    import anyio

    came: list[int] = []
    with anyio.CancelScope() as scope:

        def stop(number: int) -> None:
            came.append(number)
            scope.cancel()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            # They stay in force to the end: a second Ctrl-C does not disturb the tidying up.
            loop.add_signal_handler(number, stop, number)
        return await work()
    raise StoppedError(came[0])


def print_json(report: Mapping[str, Any]) -> None:
    """Print a report to standard output, as one line of JSON."""
    click.echo(json.dumps(report))


def stays(instead: object) -> str:
    """Say that what was there before stays, and where the export is; nothing where it took that place."""
    if instead is None:
        return ""
    return f" What was there before stays; this export, which is not complete, is in {instead}."


class Command(click.Command):
    """A command that takes an option once, unless it is made to be repeated: click would take the last."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments. Raises UsageError."""
        _, _, given = self.make_parser(ctx).parse_args(list(args))
        for parameter, times in Counter(given).items():
            if times > 1 and isinstance(parameter, click.Option) and not parameter.multiple:
                raise click.UsageError(f"{parameter.opts[0]} is given {times} times; give it once.", ctx)
        return super().parse_args(ctx, args)


def with_options(function: Handler, options: Sequence[Callable[[Handler], Handler]]) -> Handler:
    """Return a function options, in the order in which help is to list them."""
    for option in reversed(options):
        function = option(function)
    return function
