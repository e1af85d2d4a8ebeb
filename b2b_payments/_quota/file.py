"""A store's window in a small locked file, for all processes of this machine that name the same store.

The file has two slots, written in turns, each with a number and a checksum: whoever is killed while writing
leaves the other slot as it was, and what it was about to be granted it has not sent. Moments are those of the
machine's monotonic clock, which all processes share and nobody sets.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import struct
import time
import zlib
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path
from random import getrandbits
from typing import TypeVar

import attrs
import msgspec

from b2b_payments._errors import ConfigurationError
from b2b_payments._quota.homes import Home, Store
from b2b_payments._quota.quota import Quota
from b2b_payments._quota.window import Claim, Priority, Window

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")
Terms = tuple[int, float, float, int]
"""A quota as the file holds it: limit, per, margin, reserve."""

_FOLDERS = ("/dev/shm", "/tmp")  # noqa: S108 - a folder of our own there, which nobody else can enter
_SLOT = 16 * 1024
"""Slots are of so many bytes, or a multiple."""
_HEAD = struct.Struct("<8sQII")
"""What says that it is ours, a slot's number, and the length and the checksum of what follows."""
_OURS = b"b2bquota"
_TRIES, _PAUSE = 20, 0.0001
"""How often a lock is tried that another holds, and the seconds in between: it is held for a fraction."""
_BUSY = 1.0
"""Seconds after which a lock that is held all the time counts as lost: its holder was stopped."""
_AGAIN = 1.0
"""Seconds between two attempts to get a lost file back."""
_REMEMBERED = 120.0
"""Seconds for which a process that asks no more counts among those that share."""

_logger = logging.getLogger("b2b_payments")


class _State(msgspec.Struct, array_like=True):
    """A window as the file holds it."""

    boot: str
    moments: bytes
    pages: bytes
    allocated: tuple[int, float] | None
    closed_until: float
    forecast: tuple[float, float, float, float, bool]
    in_flight: list[tuple[int, float]]
    claims: list[tuple[int, int, float, float]]
    shares: dict[int, tuple[float, list[Terms]]]
    """Of each process: when it was here last, and its quotas."""


_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(_State)


def path_for(store: Store, shared: bool | str) -> Path:
    """Give the file of a store: the one named, or one of its own in the folder named, or in one of this user.

    That folder does not depend on the environment's variables: a job of cron and a shell have to meet. Raises
    ConfigurationError where there is none.
    """
    if fcntl is None:
        raise ConfigurationError("Quota(shared=…) needs POSIX locks; leave it out, and divide by `share`.")
    if isinstance(shared, str) and not Path(shared).is_dir():
        return Path(shared)
    # A credential's own text, which its `repr` hides: whoever has it not cannot find it by the file's name.
    parts = [str.__str__(part) for part in store if isinstance(part, str)]
    if len(parts) != len(store):
        raise ConfigurationError(
            "Quota(shared=…) does not know the store by a token that a function gives: give a file's path."
        )
    name = f"quota-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:24]}"
    if isinstance(shared, str):
        return Path(shared, name)
    for base in _FOLDERS:
        folder = Path(base, f"b2b-payments-{os.getuid()}")
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            about = folder.lstat()
        except OSError:
            continue
        # Another user may have made it first: then it is not used.
        if stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & 0o077:
            return folder / name
    raise ConfigurationError(
        "Quota(shared=True) finds no folder of this user's own; give the path of a file instead of True."
    )


class FileHome(Home):
    """A window in a file. Where that is lost, each process goes on alone, with its part of the quota."""

    def __init__(self, store: Store, quota: Quota, known: Window | None = None) -> None:
        super().__init__(quota)
        if known is not None:
            self.latest = known
            self._quotas |= known.grants.quotas
        self.path = path_for(store, quota.shared or False)
        self._me = getrandbits(62)
        self._boot = _boot_id()
        self._file: int | None = None
        self._pid = os.getpid()
        self._number = 0
        self._shares: dict[int, tuple[float, list[Terms]]] = {}
        self._reports: list[Callable[[Window], object]] = []
        self._busy_since: float | None = None
        self._lost = False
        self._retry_at = 0.0
        self._unmerged = known is not None

    @property
    def is_shared(self) -> bool:
        """Whether others take part: with a file, always."""
        return True

    def work(self, action: Callable[[Window], T]) -> T | None:
        """Work on the window that the file holds, or where the file is lost, on what is known of it."""
        with self._lock:
            now = time.monotonic()
            if self._lost and now < self._retry_at:
                return self._do(action)
            try:
                file = self._taken()
            except BlockingIOError:
                self._busy_since = self._busy_since or now
                if now - self._busy_since < _BUSY:
                    return None
                self._lose(TimeoutError("a process that was stopped holds its lock"), now)
                return self._do(action)
            except OSError as error:
                self._lose(error, now)
                return self._do(action)
            try:
                self._busy_since = None
                try:
                    self._load(file, now)
                except OSError as error:
                    self._lose(error, now)
                done = self._do(action)
                try:
                    if not self._lost:
                        self._save(file, now)
                except OSError as error:
                    self._lose(error, now)
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)
            return done

    def report(self, action: Callable[[Window], object]) -> None:
        """Work on the window now, or at the latest before whoever of this process does so next."""
        with self._lock:
            self._reports.append(action)
            self.work(lambda _: None)

    def _do(self, action: Callable[[Window], T]) -> T:
        while self._reports:
            self._reports[0](self.latest)
            del self._reports[0]
        return action(self.latest)

    def _taken(self) -> int:
        """Open the file and lock it. Raises BlockingIOError where another holds the lock, and OSError."""
        if self._file is not None and (self._pid != os.getpid() or os.fstat(self._file).st_nlink == 0):
            # A child of a fork would share its parent's lock; a file that was removed is nobody else's.
            os.close(self._file)
            self._file, self._unmerged = None, True
        if self._file is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._file, self._pid = os.open(self.path, flags, 0o600), os.getpid()
            self._open_to_others(self._file)
        for _ in range(_TRIES):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_PAUSE)
            else:
                return self._file
        raise BlockingIOError

    def _open_to_others(self, file: int) -> None:
        """Let those use a new file who may make files beside it."""
        about = os.fstat(file)
        if about.st_size == 0 and about.st_uid == os.geteuid():
            os.fchmod(file, 0o600 | self.path.parent.stat().st_mode & 0o066)

    def _load(self, file: int, now: float) -> None:
        """Read the window. What this process knows is added where the file was lost or removed."""
        slots = self._slots(file)
        state = self._newest(slots)
        window = Window(next(iter(self._quotas)))
        if state is not None and state.boot == self._boot:
            self._shares = {who: share for who, share in state.shares.items() if share[0] + _REMEMBERED > now}
            _unpack(state, window)
        others = [_quota(terms) for _, quotas in self._shares.values() for terms in quotas]
        for quota in (*self._quotas, *others):
            window.grants.tighten(quota)
        if state is None and (slots or self._number):
            # It is damaged, or another than before: nobody knows what was granted, so a whole window was.
            window.grants.fill(now)
        if self._lost or self._unmerged:
            window.grants.merge(self.latest.grants)
            window.close(self.latest.closed_until)
        if self._lost:
            _logger.info("The quota is shared again, through %s.", self.path)
        self._lost = self._unmerged = False
        self.latest = window

    def _slots(self, file: int) -> list[tuple[int, int, int, bytes]]:
        """Read what was ever written. Raises OSError for a file of somebody else's."""
        size = os.fstat(file).st_size
        halves = [os.pread(file, size // 2, start) for start in (0, size // 2)]
        if size == 0 or (size >= 2 * _SLOT and not any(map(any, halves))):
            return []  # new, or of one who was killed before it wrote anything
        ours = [half for half in halves if half.startswith(_OURS)]
        if size < 2 * _SLOT or not ours:
            raise OSError(None, "it holds something else")
        return [(*_HEAD.unpack_from(half)[1:], half[_HEAD.size :]) for half in ours]

    def _newest(self, slots: list[tuple[int, int, int, bytes]]) -> _State | None:
        """Give what was written last, of what was written whole."""
        for number, length, checksum, rest in sorted(slots, reverse=True):
            body = rest[:length]
            if len(body) == length and zlib.crc32(body) == checksum:
                self._number = number
                try:
                    return _decoder.decode(body)
                except msgspec.MsgspecError:
                    return None  # of another version
        return None

    def _save(self, file: int, now: float) -> None:
        """Write the window into the slot that was not written last. Raises OSError."""
        self._shares[self._me] = now, [(q.limit, q.per, q.margin, q.reserve) for q in self._quotas]
        body = _encoder.encode(_packed(self.latest, self._boot, self._shares))
        slot, needed = os.fstat(file).st_size // 2, _HEAD.size + len(body)
        if needed > slot:
            slot = -(-needed // _SLOT) * _SLOT
            os.posix_fallocate(file, 0, 2 * slot)  # a full disk is met here, and nowhere else
        self._number += 1
        head = _HEAD.pack(_OURS, self._number, len(body), zlib.crc32(body))
        os.pwrite(file, head + body, slot * (self._number % 2))

    def _lose(self, error: OSError, now: float) -> None:
        self._retry_at = now + _AGAIN
        if self._lost:
            return
        self._lost = True
        sharers = max(1, len(self._shares))
        for quota in self._quotas:
            limit = max(1, quota.limit // sharers)
            part = attrs.evolve(quota, requests=limit, share=1.0, reserve=min(quota.reserve, limit - 1))
            self.latest.grants.tighten(part)
        _logger.warning(
            "The quota cannot be shared through %s (%s): this process keeps to a %s of it until it can.",
            self.path,
            error.strerror or error,
            f"part in {sharers}" if sharers > 1 else "window of its own",
        )


def _quota(terms: Terms) -> Quota:
    limit, per, margin, reserve = terms
    return Quota(limit, per, margin=margin, reserve=reserve)


def _packed(window: Window, boot: str, shares: dict[int, tuple[float, list[Terms]]]) -> _State:
    grants, forecast = window.grants, window.forecast
    return _State(
        boot,
        array("d", grants.moments).tobytes(),
        array("d", grants.pages).tobytes(),
        grants.allocated,
        window.closed_until,
        (forecast.trust, forecast.remaining, forecast.stated_at, forecast.resets_at, forecast.slides),
        list(window.in_flight.items()),
        [(who, *claim) for who, claim in window.claims.items()],
        shares,
    )


def _unpack(state: _State, window: Window) -> None:
    grants, forecast = window.grants, window.forecast
    grants.moments = deque(array("d", state.moments))
    grants.pages = deque(array("d", state.pages))
    if state.allocated is not None:
        grants.allocate(*state.allocated)
    window.closed_until = state.closed_until
    forecast.trust, forecast.remaining, forecast.stated_at, forecast.resets_at, forecast.slides = (
        state.forecast
    )
    window.in_flight = OrderedDict(state.in_flight)
    window.claims = {who: Claim(Priority(first), came, seen) for who, first, came, seen in state.claims}


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
