"""Shows what a command is waiting for: in a line that counts down on a terminal, or in plain lines.

Waits are those that the service asks for, pauses before another attempt, and waits for the store's quota.
"""

from __future__ import annotations

import asyncio
import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event as Flag
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Self

import click

from b2b_payments.events import (
    CallEnded,
    Event,
    Listener,
    PageJoined,
    QuotaWait,
    QuotaWaitEnded,
    RequestEnded,
    RequestStarted,
    RetryScheduled,
)
from b2b_payments.export._bucket import longest_wait

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

OBJECT_STORE_PATIENCE = 2.0
"""Seconds without an answer from an object store after which that is shown."""
_CHECK_INTERVAL = 1.0
_LINE_INTERVAL = 15.0
_MIN_EXTENSION = 1.0  # seconds by which a wait must end later than the one last printed, to be printed too


@contextmanager
def object_store_waits_shown() -> Iterator[None]:
    """Print how long an object store has not answered, for commands that show no progress."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as in the program itself
        signal.signal(signal.SIGINT, signal.default_int_handler)  # so that temporary files are removed
    over = Flag()

    def watch() -> None:
        printed_at = -math.inf
        while not over.wait(_CHECK_INTERVAL):
            wait = longest_wait(OBJECT_STORE_PATIENCE)
            if wait is not None and monotonic() - printed_at >= _LINE_INTERVAL:
                printed_at = monotonic()
                click.echo(f"{object_store_wait(*wait)}.", err=True)

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def object_store_wait(bucket: str, seconds: float) -> str:
    return f"waiting ({seconds:.0f} s so far) for {bucket} to answer"


@dataclass(frozen=True, repr=False)
class Wait:
    """A wait until `ends`, printed if it lasts `minimum` seconds; `asked` if the service asked for it."""

    prefix: str
    suffix: str
    ends: float
    minimum: float
    asked: bool = False
    patience: float | None = None

    def text(self, now: float) -> str:
        """Return the reason with the seconds left."""
        left = max(0.0, self.ends - now)
        return f"{self.prefix}{left:.{1 if left < 10 else 0}f}{self.suffix}"


def wait_of(event: Event, now: float) -> Wait | None:
    """Return the wait that an event begins, or None."""
    if isinstance(event, RetryScheduled) and event.delay > 0:
        ends = now + event.delay
        if event.asked is not None:
            return Wait(f"the service asks to wait {event.asked:.0f} s, ", " s left", ends, 1.0, asked=True)
        prefix = f"attempt {event.attempt} failed ({event.why or event.reason}), next attempt in "
        return Wait(prefix, " s", ends, 5.0, patience=event.patience)
    # A wait for an answer in flight takes milliseconds.
    if isinstance(event, QuotaWait) and event.reason != "in flight":
        # In a long export, our own window fills up every minute: not worth a line.
        minimum = math.inf if event.reason == "window" else 5.0
        return Wait("waiting ", " s for the store's quota", now + event.seconds, minimum)
    return None


class Waits:
    """The current waits, tracked by the client's events. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.clock = clock
        self.answered = False
        """Whether any request has succeeded yet."""
        self._waits: dict[int, Wait] = {}

    def listen(self, event: Event) -> None:
        if (wait := wait_of(event, self.clock())) is not None and isinstance(
            event, RetryScheduled | QuotaWait
        ):
            self._waits[event.call_id] = wait
        elif isinstance(event, RequestEnded):
            self.answered = self.answered or event.error is None
        elif isinstance(event, RequestStarted | CallEnded | QuotaWaitEnded):
            self._waits.pop(event.call_id, None)
        elif isinstance(event, PageJoined):
            self._waits = {call_id: one for call_id, one in self._waits.items() if one.asked}

    @property
    def longest(self) -> Wait | None:
        """The wait that ends last, or None.

        Its end may have passed, if the event that ends it has not come yet.
        """
        return max(self._waits.values(), key=lambda wait: wait.ends, default=None)

    @property
    def text(self) -> str | None:
        """What is being waited for, and how much longer; None if nothing is."""
        wait = self.longest
        if wait is None:
            return None
        text = wait.text(self.clock())
        # Before the first answer, the service may be unreachable for good: say how long this may take.
        if wait.patience is None or self.answered:
            return text
        return f"{text}; retrying for up to {wait.patience:.0f} s more (--outage 0 fails at once)"


class PlainLines:
    """Prints waits as lines on standard error: when one begins, and if it `repeats`, every 15 seconds."""

    def __init__(
        self, label: str = "", clock: Callable[[], float] = monotonic, *, repeats: bool = True
    ) -> None:
        self._label = f"{label}: " if label else ""
        self._repeats = repeats
        self._waits = Waits(clock)
        self._printed_until = -math.inf
        self._timer: asyncio.TimerHandle | None = None

    def listen(self, event: Event) -> None:
        self._waits.listen(event)
        wait, now = self._waits.longest, self._waits.clock()
        if wait is None:
            self._stop()
        elif wait.ends - now >= self._threshold(wait) and wait.ends > self._printed_until + _MIN_EXTENSION:
            self._print(wait)

    def _threshold(self, wait: Wait) -> float:
        """Return the seconds from which on a wait is printed: 0 if the very first request failed."""
        return 0.0 if wait.patience and not self._waits.answered and self._printed_until < 0 else wait.minimum

    def _print(self, wait: Wait) -> None:
        self._printed_until = wait.ends
        click.echo(f"{self._label}{_sentence(self._waits.text or '')}", err=True)
        self._stop()
        if self._repeats:
            self._timer = asyncio.get_running_loop().call_later(_LINE_INTERVAL, self._print_again)

    def _print_again(self) -> None:
        if (wait := self._waits.longest) is not None:
            self._print(wait)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Notice:
    """Shows waits in one line of a terminal, which counts down and disappears when the wait is over."""

    _current: Notice | None = None

    def __init__(self) -> None:
        self._waits = Waits()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        Notice._current = self
        return self

    def __exit__(self, *_: object) -> None:
        Notice._current = None
        self.hide()

    def listen(self, event: Event) -> None:
        self._waits.listen(event)
        self.update()

    def update(self) -> None:
        if self._waits.longest is None:
            self.hide()
        elif self._live is None:
            # Imported only when there is a wait to show.
            from b2b_payments._cli.terminal import live

            self._live = live(lambda _: self._text())
            self._live.start(refresh=True)

    def hide(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _text(self) -> Text:
        from rich.text import Text

        text = self._waits.text
        return Text("" if text is None else _sentence(text))

    @classmethod
    @contextmanager
    def hidden(cls) -> Iterator[None]:
        """Hide the line while something else is printed."""
        notice = cls._current
        if notice is not None:
            notice.hide()
        yield
        if notice is not None and notice is cls._current:
            notice.update()


@contextmanager
def waits_shown() -> Iterator[Listener]:
    """Yield a listener that shows the waits of one call: a notice on a terminal, else plain lines."""
    from b2b_payments._cli.terminal import can_draw

    if not can_draw():
        yield PlainLines().listen
        return
    with Notice() as notice:
        yield notice.listen


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
