"""A store's window in Redis or Valkey, for all processes that reach the server, on whatever machine.

One script call asks for a permit and brings along what became of requests since; `window.lua` is that script,
and `window.py` the same rule, by which a process goes on where the server is lost. Optimistic transactions
with the rule in Python alone were tried: eight processes took 4.3 calls a turn, and one waited 113 ms.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.resources import files
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import anyio
import msgspec

from b2b_payments._errors import ConfigurationError
from b2b_payments._quota import window as rule
from b2b_payments._quota.backends import SharedBackend, StoreKey, digest_of
from b2b_payments._quota.quota import LONGEST_READING, Quota, believable, credentials_in, without_credentials
from b2b_payments._quota.state import REMEMBERED, State, terms_of, unpacked
from b2b_payments._quota.window import Priority, Report, ReportKind, Verdict, WaitReason, Window, new_key
from b2b_payments._secret import redacted

PATIENCE = 0.9
"""Seconds for which a request waits for the server; then this process goes on alone."""
_AGAIN = 1.0
"""Seconds between two attempts to reach a server that was lost."""
_SLACK = PATIENCE + 0.1
"""Seconds by which the server's clock may seem to be ahead, since a call was late: more, and it was set."""
_KEPT = 2 * LONGEST_READING
"""Seconds after its last use for which the server keeps a window."""

_LONGEST = 200
"""Characters of an error that are shown."""
_REASONS = tuple(WaitReason)
Wire = tuple[int, int, float, int, float, int, float, float, float]
_Ask = tuple[int, int, float, int]
"""Who asks: member, priority, when it came, and the key that its permit gets."""


class _Kept(msgspec.Struct, array_like=True):
    """What the server keeps: who began it, by whose clock, and the window."""

    born: float
    now: float
    skew: float
    filled: bool
    window: State


_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(_Kept)
_verdicts = msgspec.msgpack.Decoder(tuple[int, float, int, int, float])


def script(source: str | None = None) -> str:
    """Return the script, with the rule's numbers in it."""
    numbers = {
        **{
            name: getattr(rule, name)
            for name in ("PATIENCE", "LOST", "AGEING", "SPARE", "LOW", "MUCH", "JITTER")
        },
        **{name: ReportKind[name].value for name in ("ANSWERED", "REFUSED", "WITHDRAWN")},
        **{reason.name: number for number, reason in enumerate(_REASONS)},
        "REMEMBERED": REMEMBERED,
        "SLACK": _SLACK,
        "TTL": int(_KEPT),
    }
    source = source or files("b2b_payments._quota").joinpath("window.lua").read_text(encoding="utf-8")
    return "".join(f"local {name} = {number}\n" for name, number in numbers.items()) + source


class _Server:
    """A connection to one server, for all stores of this process, used by one thread of its own."""

    lock: ClassVar[threading.Lock] = threading.Lock()
    known: ClassVar[WeakValueDictionary[str, _Server]] = WeakValueDictionary()

    def __init__(self, url: str) -> None:
        try:
            from redis import Redis  # noqa: PLC0415 - an extra
            from redis.backoff import NoBackoff  # noqa: PLC0415
            from redis.exceptions import ConnectionError as NoConnection  # noqa: PLC0415
            from redis.retry import Retry  # noqa: PLC0415
        except ImportError:
            raise ConfigurationError(
                "Quota(shared=…) with the URL of a server needs redis: install b2b-payments[redis]."
            ) from None
        # An idle connection may have been closed: a new one is tried at once.
        again = Retry(NoBackoff(), 1, supported_errors=(NoConnection,))
        limits = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE, "retry": again}
        try:
            self._client = Redis.from_url(url, **limits)
            self._secrets = credentials_in(url)
        except ValueError:
            raise ConfigurationError(
                "Quota(shared=…) has a URL that cannot be read: write redis://host:6379/0, rediss:// or unix://."
            ) from None
        self._script = self._client.register_script(script())
        self.where: str = without_credentials(url)
        self.thread: ThreadPoolExecutor = ThreadPoolExecutor(1, "b2b_payments.quota")
        self.lost: bool = False
        self.retry_at: float = 0.0

    @classmethod
    def forget_all(cls) -> None:
        """Forget the servers: a child of a fork has none of their threads."""
        cls.lock = threading.Lock()
        cls.known = WeakValueDictionary()

    @classmethod
    def at(cls, url: str) -> _Server:
        """Return the one server of this URL."""
        with cls.lock:
            server = cls.known.get(url)
            if server is None:
                server = cls.known[url] = cls(url)
            return server

    def in_our_words(self, error: Exception) -> str:
        """Say what went wrong, without a credential."""
        return redacted(f"{type(error).__name__}: {error}".partition("\n")[0][:_LONGEST], self._secrets)

    def call(self, name: str, call: tuple[Any, ...]) -> tuple[_Kept, Verdict | None]:
        """Run the script on a store's window. Raises RedisError and others, for whatever goes wrong."""
        return self.read(self._script(keys=[name], args=[_encoder.encode(call)]))

    @staticmethod
    def read(reply: Any) -> tuple[_Kept, Verdict | None]:
        """Read the script's answer: what is kept, and the verdict for one who asked."""
        kept = _decoder.decode(reply[0])
        if not reply[1]:
            return kept, None
        key, opens, reason, ahead, granted_at = _verdicts.decode(reply[1])
        return kept, Verdict(key or None, opens, _REASONS[reason], ahead, granted_at)


class RedisBackend(SharedBackend):
    """A window that a server keeps. Where that is lost, each process goes on alone, with its part."""

    def __init__(self, key: StoreKey, quota: Quota, known: Window | None = None) -> None:
        super().__init__(quota)
        self._name = f"b2b-payments:quota:{digest_of(key, 'use StoreAuth')}"
        self._server = _Server.at(str.__str__(str(quota.shared)))
        self.where = self._server.where
        self._reports: list[tuple[Report, float]] = []
        self._jobs = 0
        self._seen: _Kept | None = None
        self._seen_at = 0.0
        # What the server does not know yet, in the machine's time.
        self._uncounted: list[tuple[float, Priority]] = []
        self._closes = -math.inf
        if known is not None:
            self.latest = known
            self._quotas |= known.grants.quotas
            pages = set(known.grants.pages)
            self._uncounted = [(at, Priority(int(at in pages))) for at in known.grants.moments]
            self._closes = known.closed_until

    async def ask(
        self, member: int, priority: Priority, came: float, clock: Callable[[], float]
    ) -> Verdict | None:
        """Ask the server for a permit; where it is lost, go by what is known of the window."""
        if not self._server.lost:
            verdict = await self._ask_server((member, priority, came, new_key()))
            if verdict is not None:
                return verdict
        elif (now := time.monotonic()) >= self._server.retry_at:
            self._server.retry_at = now + _AGAIN
            self._submit(None)
        with self._lock:
            self._go_alone()
            now = clock()
            verdict = self.latest.ask(member, priority, came + self.offset, now + self.offset)
            if verdict.key is not None:
                self._uncounted.append((now, priority))
            return self._in_machine_time(verdict)

    def report(self, report: Report, now: float) -> None:
        """Take in what became of a request, and tell the server soon."""
        with self._lock:
            self.latest.take_in(report, now + self.offset)
            if self._server.lost:
                self._closes = self.closed_until
                return
            self._reports.append((report, now))
            if not self._jobs:
                self._submit(None)

    async def _ask_server(self, ask: _Ask) -> Verdict | None:
        verdict: Verdict | None = None
        job = self._submit(ask)
        try:
            with anyio.move_on_after(PATIENCE):
                verdict = await asyncio.wrap_future(job)
                return verdict
        finally:
            if verdict is None:
                job.add_done_callback(self._give_back)
        self._lose(f"no answer within {PATIENCE} s")
        return None

    def _give_back(self, job: Future[Verdict | None]) -> None:
        """Release a permit that came when nobody waited for it any more."""
        if not job.cancelled() and job.exception() is None:
            verdict = job.result()
            if verdict is not None and verdict.key is not None:
                self.report(Report(ReportKind.UNANSWERED, verdict.key), verdict.opens)

    def _submit(self, ask: _Ask | None) -> Future[Verdict | None]:
        with self._lock:
            self._jobs += 1
        return self._server.thread.submit(self._exchange, ask)

    def _exchange(self, ask: _Ask | None) -> Verdict | None:
        """Tell the server what it does not know, and ask it for a permit. In the server's own thread."""
        with self._lock:
            self._jobs -= 1
            reports, self._reports = [report for report, _ in self._reports], []
            is_needless = self._server.lost if ask is not None else not (self._server.lost or reports)
        if is_needless:
            return None
        try:
            if self._seen is None:
                self._call(None, [])  # to learn what time it is there
            return self._call(ask, reports)
        except Exception as error:  # noqa: BLE001 - the client's own, the system's, or what cannot be decoded
            self._lose(self._server.in_our_words(error))
            return None

    def _call(self, ask: _Ask | None, reports: list[Report]) -> Verdict | None:
        begun = time.monotonic()
        with self._lock:
            seen, elapsed = self._seen, begun - self._seen_at
            is_known = seen is not None and elapsed < _KEPT
            uncounted, closes = ([], -math.inf) if seen is None else (list(self._uncounted), self._closes)
            call = (
                self._me,
                terms_of(self._quotas),
                *((seen.now, elapsed, seen.born) if seen is not None and is_known else (0, 0, 0)),
                [_wire(report) for report in reports],
                () if ask is None else (*ask[:2], ask[2] + self.offset, ask[3]),
                [(at + self.offset, priority) for at, priority in uncounted],
                closes + self.offset,
            )
        kept, verdict = self._server.call(self._name, call)
        with self._lock:
            ended = time.monotonic()
            if seen is not None:
                del self._uncounted[: len(uncounted)]
                self._closes = -math.inf
            self._seen, self._seen_at = kept, begun
            self.offset = kept.now - ended
            self.latest = unpacked(kept.window, self._quotas)
            self._sharers, self._is_alone = kept.window.sharers, False
            for report, at in self._reports:
                self.latest.take_in(report, at + self.offset)
            if self._server.lost and ended - begun < PATIENCE:
                self._server.lost = False
                self._say_shared_again()
            return None if verdict is None else self._in_machine_time(verdict)

    def _lose(self, why: str) -> None:
        with self._lock:
            self._server.retry_at = time.monotonic() + _AGAIN
            if not self._server.lost:
                self._server.lost = True
                self._warn(why)
            self._go_alone()


def _wire(report: Report) -> Wire:
    reading = report.reading
    resets_after, allocated = believable(reading.resets_after), rule.is_a_quota(reading.allocated)
    return (
        report.kind,
        report.key,
        report.granted_at,
        -1 if reading.remaining is None else reading.remaining,
        -1 if resets_after is None else resets_after,
        *(allocated or (0, 0)),
        report.pause,
        report.chance,
    )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Server.forget_all)
