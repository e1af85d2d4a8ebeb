"""What a command waits for, told while it lasts: in a line that counts down, or in plain lines.

A wait may be one that the service asks for, the pause before another attempt, or one for the store's quota.
"""

from __future__ import annotations

import asyncio
import math
import sys
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
from b2b_payments.export._bucket import waited_for

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

PATIENCE = 2.0
"""Seconds for which an object store may be silent before that is told."""
_LOOK_EVERY = 1.0
_BETWEEN_LINES = 15.0
_NEWS = 1.0  # by how many seconds a wait ends later than the one told of, to be told of too


@contextmanager
def telling_silence() -> Iterator[None]:
    """Say, where there is no progress to show, how long an object store has not answered."""
    over = Flag()

    def tell() -> None:
        told_at = -math.inf
        while not over.wait(_LOOK_EVERY):
            wait = waited_for(PATIENCE)
            if wait is not None and monotonic() - told_at >= _BETWEEN_LINES:
                told_at = monotonic()
                click.echo(f"{words_of_silence(*wait)}.", err=True)

    telling = Thread(target=tell, daemon=True)
    telling.start()
    try:
        yield
    finally:
        over.set()
        telling.join()


def words_of_silence(bucket: str, seconds: float) -> str:
    """Say that an object store does not answer."""
    return f"waiting {seconds:.0f} s for {bucket} to answer"


@dataclass(frozen=True, repr=False)
class Wait:
    """A wait: why, and until which moment. From `least` seconds on it is worth a line of its own."""

    why: str
    unit: str
    ends: float
    least: float
    asked: bool = False
    patience: float | None = None

    def words(self, now: float) -> str:
        """Say why, and how much longer."""
        left = max(0.0, self.ends - now)
        return f"{self.why}{left:.{1 if left < 10 else 0}f}{self.unit}"


def wait_of(event: Event, now: float) -> Wait | None:
    """Return the wait that begins with an event, None where none does."""
    if isinstance(event, RetryScheduled) and event.delay > 0:
        ends = now + event.delay
        if event.asked is not None:
            return Wait(f"the service asks to wait {event.asked:.0f} s, ", " s left", ends, 1.0, asked=True)
        why = f"attempt {event.attempt} failed ({event.why or event.reason}), the next in "
        return Wait(why, " s", ends, 5.0, patience=event.patience)
    # A wait for an answer under way is a matter of milliseconds.
    if isinstance(event, QuotaWait) and event.reason != "in flight":
        # Our own window fills up every minute of a long export: no news.
        least = math.inf if event.reason == "window" else 5.0
        return Wait("waiting ", " s for the store's quota", now + event.seconds, least)
    return None


class Waits:
    """The waits that are under way, by the client's events. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.clock = clock
        self.answered = False
        """Whether the service has answered anything yet as it should."""
        self._waits: dict[int, Wait] = {}

    def listen(self, event: Event) -> None:
        """Take in what the client does."""
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
        """The one that ends last, None where nothing is waited for.

        It may have ended already, and what follows may not have begun yet.
        """
        return max(self._waits.values(), key=lambda wait: wait.ends, default=None)

    @property
    def words(self) -> str | None:
        """What is waited for now, and how much longer."""
        wait = self.longest
        if wait is None:
            return None
        words = wait.words(self.clock())
        # From the first request on it may be that nothing will ever be answered.
        if wait.patience is None or self.answered:
            return words
        return f"{words}, for up to {wait.patience:.0f} s more; --outage 0 would not wait"


class PlainLines:
    """Tells of waits in lines on standard error: when one begins, and every 15 seconds while it lasts."""

    def __init__(self, label: str = "", clock: Callable[[], float] = monotonic) -> None:
        self._label = f"{label}: " if label else ""
        self._waits = Waits(clock)
        self._told_until = -math.inf
        self._timer: asyncio.TimerHandle | None = None

    def listen(self, event: Event) -> None:
        """Take in what the client does."""
        self._waits.listen(event)
        wait, now = self._waits.longest, self._waits.clock()
        if wait is None:
            self._stop()
        elif wait.ends - now >= self._least(wait) and wait.ends > self._told_until + _NEWS:
            self._tell(wait)

    def _least(self, wait: Wait) -> float:
        """How long a wait has to be to be told of: a first request that fails is news at once."""
        return 0.0 if wait.patience and not self._waits.answered and self._told_until < 0 else wait.least

    def _tell(self, wait: Wait) -> None:
        self._told_until = wait.ends
        click.echo(f"{self._label}{_sentence(self._waits.words or '')}", err=True)
        self._stop()
        self._timer = asyncio.get_running_loop().call_later(_BETWEEN_LINES, self._tell_again)

    def _tell_again(self) -> None:
        if (wait := self._waits.longest) is not None:
            self._tell(wait)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Notice:
    """Tells of waits in one line of a terminal that counts down, and goes when the wait is over."""

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
        """Take in what the client does."""
        self._waits.listen(event)
        self.update()

    def update(self) -> None:
        """Show the line where something is waited for."""
        if self._waits.longest is None:
            self.hide()
        elif self._live is None:
            self._live = _live(self._text)
            self._live.start(refresh=True)

    def hide(self) -> None:
        """Take the line away."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _text(self) -> Text:
        from rich.text import Text

        words = self._waits.words
        return Text("" if words is None else _sentence(words))

    @classmethod
    @contextmanager
    def hidden(cls) -> Iterator[None]:
        """Take the line away while something else is printed."""
        notice = cls._current
        if notice is not None:
            notice.hide()
        yield
        if notice is not None and notice is cls._current:
            notice.update()


@contextmanager
def waits_told() -> Iterator[Listener]:
    """Yield what tells of the waits of one call: a notice on a terminal, else plain lines."""
    from b2b_payments._cli.terminal import can_draw

    if not can_draw():
        yield PlainLines().listen
        return
    with Notice() as notice:
        yield notice.listen


def _live(text: Callable[[], Text]) -> Live:
    # Loaded when there is something to wait for.
    from rich.live import Live

    from b2b_payments._cli.terminal import console_on

    console = console_on(sys.stderr)
    return Live(console=console, transient=True, refresh_per_second=10, get_renderable=text)


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."
