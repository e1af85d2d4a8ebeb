"""A store's window in Redis or Valkey, for all processes that reach the server, on any machine.

One script call requests a permit and reports how earlier requests ended. `window.lua` is that script;
`window.py` has the same rules, for processes that have lost the server. Optimistic transactions with the
rules in Python alone were tried: eight processes took 4.3 calls a permit, and one of them waited 113 ms.
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
from b2b_payments._quota.state import REMEMBERED, State, terms_of, unpack
from b2b_payments._quota.window import Priority, Report, ReportKind, Verdict, WaitReason, Window, new_key
from b2b_payments._secret import redacted

PATIENCE = 0.9
"""Seconds for which a request waits for the server; after that, this process continues without it."""
_RETRY_INTERVAL = 1.0
"""Seconds between attempts to reach a lost server."""
_SLACK = PATIENCE + 0.1
"""Seconds by which the server's clock may seem ahead because a call was slow; beyond that, it was set."""
_TTL = 2 * LONGEST_READING
"""Seconds after its last use for which the server keeps a window."""

_LONGEST = 200
"""The number of characters shown of an error."""
_REASONS = tuple(WaitReason)
Wire = tuple[int, int, float, int, float, int, float, float, float]
_PermitRequest = tuple[int, int, float, int]
"""The member, its priority, since when it waits, and the key of the permit it would get."""


class _Stored(msgspec.Struct, array_like=True):
    """What the server stores. `now` is the window's time, `skew` seconds ahead of the server's clock."""

    born: float  # when it was created, on the server's clock
    now: float
    skew: float
    filled: bool  # whether a lost window was replaced by a full one
    window: State


_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(_Stored)
_verdicts = msgspec.msgpack.Decoder(tuple[int, float, int, int, float])


def script(source: str | None = None) -> str:
    """Return the script, preceded by the constants that it shares with Python."""
    numbers = {
        **{
            name: getattr(rule, name)
            for name in ("PATIENCE", "LOST", "AGEING", "SPARE", "LOW", "MUCH", "JITTER")
        },
        **{name: ReportKind[name].value for name in ("ANSWERED", "REFUSED", "WITHDRAWN")},
        **{reason.name: number for number, reason in enumerate(_REASONS)},
        "REMEMBERED": REMEMBERED,
        "SLACK": _SLACK,
        "TTL": int(_TTL),
    }
    source = source or files("b2b_payments._quota").joinpath("window.lua").read_text(encoding="utf-8")
    return "".join(f"local {name} = {number}\n" for name, number in numbers.items()) + source


class _Server:
    """A connection to one server, for all stores of this process, used by a thread of its own."""

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
                "Quota(shared=…) with a server's URL needs redis: pip install 'b2b-payments[redis]'."
            ) from None
        # An idle connection may have been closed: try a new one at once.
        again = Retry(NoBackoff(), 1, supported_errors=(NoConnection,))
        limits = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE, "retry": again}
        try:
            self._client = Redis.from_url(url, **limits)
            self._secrets = credentials_in(url)
        except ValueError:
            raise ConfigurationError(
                "Quota(shared=…) has an invalid URL: write redis://host:6379/0, rediss:// or unix://."
            ) from None
        self._script = self._client.register_script(script())
        self.location: str = without_credentials(url)
        self.thread: ThreadPoolExecutor = ThreadPoolExecutor(1, "b2b_payments.quota")
        self.lost: bool = False
        self.retry_at: float = 0.0

    @classmethod
    def forget_all(cls) -> None:
        """Forget the servers: their threads do not exist in a forked child."""
        cls.lock = threading.Lock()
        cls.known = WeakValueDictionary()

    @classmethod
    def for_url(cls, url: str) -> _Server:
        """Return the server at this URL, the same one for all stores."""
        with cls.lock:
            server = cls.known.get(url)
            if server is None:
                server = cls.known[url] = cls(url)
            return server

    def describe(self, error: Exception) -> str:
        """Describe an error, without credentials."""
        return redacted(f"{type(error).__name__}: {error}".partition("\n")[0][:_LONGEST], self._secrets)

    def call(self, name: str, call: tuple[Any, ...]) -> tuple[_Stored, Verdict | None]:
        """Run the script on a store's window. Raises RedisError and others."""
        return self.read(self._script(keys=[name], args=[_encoder.encode(call)]))

    @staticmethod
    def read(reply: Any) -> tuple[_Stored, Verdict | None]:
        """Decode the script's reply: the stored window, and the verdict if a permit was requested."""
        stored = _decoder.decode(reply[0])
        if not reply[1]:
            return stored, None
        key, opens_at, reason, ahead, window_time = _verdicts.decode(reply[1])
        return stored, Verdict(key or None, opens_at, _REASONS[reason], ahead, window_time)


class RedisBackend(SharedBackend):
    """A window on a server. If the server is lost, each process continues with its part of the quota."""

    def __init__(self, key: StoreKey, quota: Quota, known: Window | None = None) -> None:
        super().__init__(quota)
        self._name = f"b2b-payments:quota:{digest_of(key, 'use StoreAuth')}"
        self._server = _Server.for_url(str.__str__(str(quota.shared)))
        self.location = self._server.location
        self._reports: list[tuple[Report, float]] = []
        self._jobs = 0
        self._last_state: _Stored | None = None
        self._last_state_at = 0.0
        # Grants and a closing of the gate that the server does not know yet, in machine time.
        self._unsent: list[tuple[float, Priority]] = []
        self._unsent_closing = -math.inf
        if known is not None:
            self.latest = known
            self._quotas |= known.grants.quotas
            pages = set(known.grants.pages)
            self._unsent = [(at, Priority(int(at in pages))) for at in known.grants.times]
            self._unsent_closing = known.closed_until

    async def try_acquire(
        self, member: int, priority: Priority, since: float, clock: Callable[[], float]
    ) -> Verdict | None:
        """Try to acquire a permit from the server or, if it is lost, from the last known window."""
        if not self._server.lost:
            verdict = await self._acquire_from_server((member, priority, since, new_key()))
            if verdict is not None:
                return verdict
        elif (now := time.monotonic()) >= self._server.retry_at:
            self._server.retry_at = now + _RETRY_INTERVAL
            self._submit(None)
        with self._lock:
            self._use_own_part()
            now = clock()
            verdict = self.latest.try_acquire(member, priority, since + self.offset, now + self.offset)
            if verdict.key is not None:
                self._unsent.append((now, priority))
            return self._in_machine_time(verdict)

    def report(self, report: Report, now: float) -> None:
        """Record how a request ended, and report it to the server soon."""
        with self._lock:
            self.latest.record(report, now + self.offset)
            if self._server.lost:
                self._unsent_closing = self.closed_until
                return
            self._reports.append((report, now))
            if not self._jobs:
                self._submit(None)

    async def _acquire_from_server(self, request: _PermitRequest) -> Verdict | None:
        verdict: Verdict | None = None
        job = self._submit(request)
        try:
            with anyio.move_on_after(PATIENCE):
                verdict = await asyncio.wrap_future(job)
                return verdict
        finally:
            if verdict is None:
                job.add_done_callback(self._release_unclaimed)
        self._mark_lost(f"no answer within {PATIENCE} s")
        return None

    def _release_unclaimed(self, job: Future[Verdict | None]) -> None:
        """Release a permit that arrived after its waiter had given up."""
        if not job.cancelled() and job.exception() is None:
            verdict = job.result()
            if verdict is not None and verdict.key is not None:
                self.report(Report(ReportKind.UNANSWERED, verdict.key), verdict.opens_at)

    def _submit(self, request: _PermitRequest | None) -> Future[Verdict | None]:
        with self._lock:
            self._jobs += 1
        return self._server.thread.submit(self._exchange, request)

    def _exchange(self, request: _PermitRequest | None) -> Verdict | None:
        """Send the server what it does not know yet, and request a permit. Runs in the server's thread."""
        with self._lock:
            self._jobs -= 1
            reports, self._reports = [report for report, _ in self._reports], []
            is_lost = self._server.lost
            is_needless = is_lost if request is not None else not (is_lost or reports or self._unsent)
        if is_needless:
            return None
        try:
            if self._last_state is None:
                self._call(None, [])  # to learn the server's time
            return self._call(request, reports)
        except Exception as error:  # noqa: BLE001 - redis-py's, the system's, or a decoding error
            self._mark_lost(self._server.describe(error))
            return None

    def _call(self, request: _PermitRequest | None, reports: list[Report]) -> Verdict | None:
        begun = time.monotonic()
        with self._lock:
            seen, elapsed = self._last_state, begun - self._last_state_at
            is_known = seen is not None and elapsed < _TTL
            grants, closing = ([], -math.inf) if seen is None else (list(self._unsent), self._unsent_closing)
            call = (
                self._me,
                terms_of(self._quotas),
                *((seen.now, elapsed, seen.born) if seen is not None and is_known else (0, 0, 0)),
                [_wire(report) for report in reports],
                () if request is None else (*request[:2], request[2] + self.offset, request[3]),
                [(at + self.offset, priority) for at, priority in grants],
                closing + self.offset,
            )
        stored, verdict = self._server.call(self._name, call)
        with self._lock:
            ended = time.monotonic()
            if seen is not None:
                del self._unsent[: len(grants)]
                self._unsent_closing = -math.inf
            self._last_state, self._last_state_at = stored, begun
            self.offset = stored.now - ended
            self.latest = unpack(stored.window, self._quotas)
            self._sharers, self._uses_own_part = stored.window.sharers, False
            for report, at in self._reports:
                self.latest.record(report, at + self.offset)
            if self._server.lost and ended - begun < PATIENCE:
                self._server.lost = False
                self._log_shared_again()
            if seen is not None and self._unsent and not self._jobs:
                self._submit(None)  # granted without the server during this call
            return None if verdict is None else self._in_machine_time(verdict)

    def _mark_lost(self, why: str) -> None:
        with self._lock:
            self._server.retry_at = time.monotonic() + _RETRY_INTERVAL
            if not self._server.lost:
                self._server.lost = True
                self._warn_not_shared(why)
            self._use_own_part()


def _wire(report: Report) -> Wire:
    reading = report.reading
    resets_after, allocated = believable(reading.resets_after), rule.believable_quota(reading.allocated)
    return (
        report.kind,
        report.key,
        report.window_time,
        -1 if reading.remaining is None else reading.remaining,
        -1 if resets_after is None else resets_after,
        *(allocated or (0, 0)),
        report.pause,
        report.chance,
    )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Server.forget_all)
