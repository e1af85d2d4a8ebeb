"""What all commands share: the event loop, signals, errors printed as sentences, exit codes."""

from __future__ import annotations

import functools
import inspect
import json
import re
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from b2b_payments._errors import (
    AlreadyRunningError,
    AuthenticationError,
    B2BPaymentsError,
    ConfigurationError,
    OutcomeUnknownError,
)

T = TypeVar("T")
Handler = Callable[..., None]
"""The function that runs a command."""

option_with_default = functools.partial(click.option, show_default=True)

FAILED = 1
USAGE = 2
OUTCOME_UNKNOWN = 3
ALREADY_RUNNING = 4
INTERRUPTED = 128 + signal.SIGINT


class CommandError(Exception):
    """A failed command: a sentence for standard error and an exit code."""

    def __init__(self, sentence: str, exit_code: int = FAILED) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class StoppedError(CommandError):
    """SIGINT or SIGTERM stopped the command. `outcome` says what state that left; exit code as in a shell."""

    _cause: str = "a signal"
    outcome: str = ""

    def __init__(self, number: int) -> None:
        super().__init__("", 128 + number)
        self._cause = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name

    def __str__(self) -> str:
        return f"Stopped by {self._cause}{self.outcome}."


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Run `work` in an event loop; SIGINT and SIGTERM cancel it, and are ignored once it has ended.

    Raises CommandError as `command_errors` does, StoppedError for a signal.
    """
    import anyio

    with command_errors(), _quota_warnings_shown():
        return anyio.run(_until_signal, work)


@contextmanager
def _quota_warnings_shown() -> Iterator[None]:
    """Print what the client warns of while the quota cannot be shared, unless --log-level logs it."""
    import logging

    class Printed(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            click.echo(f"Warning: {record.getMessage()}", err=True)

    logger, handler = logging.getLogger("b2b_payments.quota"), Printed(logging.WARNING)
    if any(isinstance(one, logging.StreamHandler) for one in logging.getLogger("b2b_payments").handlers):
        yield
        return
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def command_errors() -> Iterator[None]:
    """Raise a CommandError for every error of the library (its `__cause__` if more than that is needed)."""
    try:
        yield
    except OutcomeUnknownError as error:
        raise CommandError(str(error), OUTCOME_UNKNOWN) from None
    except AuthenticationError as error:
        raise CommandError(
            "The service rejected the credential. Check B2B_PAYMENTS_STORE_HASH and "
            f"B2B_PAYMENTS_ACCESS_TOKEN (or B2B_PAYMENTS_AUTH_TOKEN), and the token's scope: {error}"
        ) from None
    except ConfigurationError as error:
        raise CommandError(_VARIABLE.sub(_variable, str(error)), USAGE) from None
    except AlreadyRunningError as error:
        raise CommandError(str(error), ALREADY_RUNNING) from None
    except B2BPaymentsError as error:
        raise CommandError(str(error)) from error


# Settings that a command reads from the environment only.
_VARIABLE = re.compile(r"^(store_hash|access_token|auth_token)\b")


def _variable(setting: re.Match[str]) -> str:
    return f"B2B_PAYMENTS_{setting[0].upper()}"


async def _until_signal(work: Callable[[], Awaitable[T]]) -> T:
    import asyncio

    import anyio

    received: list[int] = []
    with anyio.CancelScope() as scope:

        def stop(number: int) -> None:
            received.append(number)
            scope.cancel()

        loop = asyncio.get_running_loop()
        # Not by the loop, which would remove the handlers when it closes.
        on_signals(lambda number, _: loop.call_soon_threadsafe(stop, number))
        try:
            return await work()
        finally:
            on_signals(signal.SIG_IGN)
    raise StoppedError(received[0])


def on_signals(action: Any) -> None:
    """Set what SIGINT and SIGTERM do: call a function, nothing (SIG_IGN), or end the process (SIG_DFL)."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, action)


def print_json(report: Mapping[str, Any]) -> None:
    """Print a report to standard output, as one line of JSON."""
    click.echo(json.dumps(report))


def kept_note(instead: object) -> str:
    """Say that an older export was kept, and that this one is in `instead`. Empty if `instead` is None."""
    if instead is None:
        return ""
    return f" The existing export was kept; this one, not proven complete, is in {instead}."


class Command(click.Command):
    """A command that refuses repeated options, unless they are `multiple`: click would use the last."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments. Raises UsageError for a repeated option."""
        _, _, parameters = self.make_parser(ctx).parse_args(list(args))
        for parameter, times in Counter(parameters).items():
            if times > 1 and isinstance(parameter, click.Option) and not parameter.multiple:
                raise click.UsageError(f"{parameter.opts[0]} was given {times} times; give it once.", ctx)
        return super().parse_args(ctx, args)


def with_names(sentence: str, names: Mapping[str, str], *, count: int = 1) -> str:
    """Replace the first `count` Python names in an error's sentence by the names that the user knows."""
    return re.sub("|".join(names), lambda name: names[name[0]], sentence, count=count)


def with_options(function: Handler, options: Sequence[Callable[[Handler], Handler]]) -> Handler:
    """Add options to a function, in the order in which help lists them."""
    for option in reversed(options):
        function = option(function)
    return function


def option_group(
    name: str, make: Callable[..., Any], options: Sequence[Callable[[Handler], Handler]]
) -> Callable[[Handler], Handler]:
    """Return a decorator that adds options, passed as one argument: what `make` returns for their values.

    `make` also gets the values of the command's other options that it has a parameter for.
    """
    probe: Any = with_options(lambda: None, options)
    names = [parameter.name for parameter in reversed(probe.__click_params__)]
    names += [name for name in inspect.signature(make).parameters if name not in names]

    def add(function: Handler) -> Handler:
        @functools.wraps(function)
        def wrapper(**values: Any) -> None:
            made = make(**{own: values.pop(own) for own in names if own in values})
            function(**{name: made}, **values)

        return with_options(wrapper, options)

    return add
