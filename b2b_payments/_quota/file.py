"""A store's window in a small locked file, shared by all processes on this machine that use the same store.

The file has two slots, written alternately, each with a sequence number and a checksum: a process killed
while writing leaves the other slot intact, and has not yet sent the request that it wrote a grant for. Times
are on the machine's monotonic clock, which all processes share and nobody can set.
"""

from __future__ import annotations

import os
import stat
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from b2b_payments._errors import ConfigurationError
from b2b_payments._quota.backends import SharedBackend, StoreKey, digest_of
from b2b_payments._quota.quota import Quota
from b2b_payments._quota.state import REMEMBERED, State, pack, terms_of, unpack
from b2b_payments._quota.window import Priority, Report, Verdict, Window
from b2b_payments._regular import open_regular

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")

_FOLDERS = ("/dev/shm", "/tmp")  # noqa: S108 - only for a folder of our own, which nobody else can enter
_SLOT = 16 * 1024
"""The size of a slot in bytes is this, or a multiple of it."""
_HEADER = struct.Struct("<8sQII")
"""A slot's header: magic bytes, sequence number, and length and checksum of the body."""
_MAGIC = b"b2bquota"
_LOCK_TRIES, _LOCK_PAUSE = 20, 0.0001
"""How often to try a lock that another process holds, and the seconds in between: it is held briefly."""
_REMEDY = "give the path of a file"
_LOCK_TIMEOUT = 1.0
"""Seconds after which the file counts as lost if its lock is never free: the holder was stopped."""
_RETRY_INTERVAL = 1.0
"""Seconds between attempts to use a lost file again."""


class _Stored(msgspec.Struct, array_like=True):
    """The body of a slot: a window, and the id of the boot since which its clock runs."""

    boot: str
    window: State


_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(_Stored)


def path_for(key: StoreKey, shared: bool | str) -> Path:
    """Return a store's file: `shared` itself, or a file of its own in that folder or in the user's folder.

    The user's folder does not depend on environment variables, so that cron jobs and shells use the same one.
    Raises ConfigurationError if there is no such folder, or no way to share a file.
    """
    if fcntl is None:
        raise ConfigurationError("Quota(shared=…) needs POSIX locks; leave it out, and set `share` instead.")
    if isinstance(shared, str) and not Path(shared).is_dir():
        return Path(shared)
    name = f"quota-{digest_of(key, _REMEDY)}"
    if isinstance(shared, str):
        return Path(shared, name)
    for base in _FOLDERS:
        folder = Path(base, f"b2b-payments-{os.getuid()}")
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            status = folder.lstat()
        except OSError:
            continue
        # Another user may have created it first: then it is not used.
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077:
            return folder / name
    raise ConfigurationError(
        "Quota(shared=True) found no folder that only this user can enter; give the path of a file instead."
    )


class FileBackend(SharedBackend):
    """A window in a file. If the file is lost, each process continues with its part of the quota."""

    def __init__(self, key: StoreKey, quota: Quota, known: Window | None = None) -> None:
        super().__init__(quota)
        if known is not None:
            self.latest = known
            self._quotas |= known.grants.quotas
        self.path = path_for(key, quota.shared or False)
        self.location = str(self.path)
        self._boot = _boot_id()
        self._file: int | None = None
        self._pid = os.getpid()
        self._sequence = 0
        self._reports: list[tuple[Report, float]] = []
        self._busy_since: float | None = None
        self._lost = False
        self._retry_at = 0.0
        self._unmerged = known is not None

    async def try_acquire(
        self, member: int, priority: Priority, since: float, clock: Callable[[], float]
    ) -> Verdict | None:
        """Try to acquire a permit from the file's window, or the last known one if the file is lost."""
        return self.with_window(lambda window: window.try_acquire(member, priority, since, clock()))

    def report(self, report: Report, now: float) -> None:
        """Record how a request ended, now or with the next access to the file."""
        with self._lock:
            self._reports.append((report, now))
            self.with_window(lambda _: None)

    def with_window(self, action: Callable[[Window], T]) -> T | None:
        """Run an action on the window, and save it. Returns None if another process keeps the file locked."""
        with self._lock:
            now = time.monotonic()
            if self._lost and now < self._retry_at:
                return self._apply(action)
            try:
                file = self._acquire_lock()
            except BlockingIOError:
                self._busy_since = self._busy_since or now
                if now - self._busy_since < _LOCK_TIMEOUT:
                    return None
                self._mark_lost(TimeoutError("a stopped process holds its lock"), now)
                return self._apply(action)
            except OSError as error:
                self._mark_lost(error, now)
                return self._apply(action)
            try:
                self._busy_since = None
                self._run_step(self._load, file, now)
                result = self._apply(action)
                if not self._lost:
                    self._run_step(self._save, file, now)
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)
            return result

    def close_if_unused(self) -> None:
        """Close the file if no member is left: there may be thousands of stores."""
        with self._lock:
            if self._file is not None and not self._members:
                os.close(self._file)
                # When it is opened again, it may be another file.
                self._file, self._unmerged = None, True

    def _apply(self, action: Callable[[Window], T]) -> T:
        while self._reports:
            self.latest.record(*self._reports[0])
            del self._reports[0]
        return action(self.latest)

    def _acquire_lock(self) -> int:
        """Open and lock the file. Raises BlockingIOError if another process holds the lock, and OSError."""
        if self._file is not None and (self._pid != os.getpid() or os.fstat(self._file).st_nlink == 0):
            # A forked child would share its parent's lock; no other process uses a removed file.
            os.close(self._file)
            self._file, self._unmerged = None, True
        if self._file is None:
            self._file, self._pid = self._open(), os.getpid()
        for _ in range(_LOCK_TRIES):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_LOCK_PAUSE)
            else:
                return self._file
        raise BlockingIOError

    def _open(self) -> int:
        """Open the file. A new one may be used by all who may create files in its folder. Raises OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        try:
            file = open_regular(self.path, flags | os.O_EXCL)
            os.fchmod(file, 0o600 | self.path.parent.stat().st_mode & 0o066)
        except FileExistsError:
            file = open_regular(self.path, flags)
        return file

    def _load(self, file: int, now: float) -> None:
        """Read the window. If the file was lost or removed, add what this process knows."""
        slots = self._slots(file)
        newest = self._newest(slots)
        if newest is not None and newest[0].boot == self._boot:
            sharers, window = newest[0].window.sharers, newest[1]
        else:
            sharers, window = [], Window(*self._quotas)
        self._sharers = [one for one in sharers if one[0] != self._me and one[1] + REMEMBERED > now]
        if newest is None and (slots or self._sequence):
            # Damaged, or another file than before: the grants are unknown, so assume a full window.
            window.grants.fill(now)
        if self._lost or self._unmerged:
            window.grants.merge(self.latest.grants)
            window.close(self.latest.closed_until)
        if self._lost:
            self._log_shared_again()
        self._lost = self._unmerged = self._uses_own_part = False
        self.latest = window

    def _slots(self, file: int) -> list[tuple[int, int, int, bytes]]:
        """Read the slots that were ever written. Raises OSError if the file is not a quota file."""
        size = os.fstat(file).st_size
        halves = [os.pread(file, size // 2, start) for start in (0, size // 2)]
        if size == 0 or (size >= 2 * _SLOT and not any(map(any, halves))):
            return []  # new, or its creator was killed before it wrote anything
        ours = [half for half in halves if half.startswith(_MAGIC)]
        if size < 2 * _SLOT or not ours:
            raise OSError(None, "it holds something else")
        return [(*_HEADER.unpack_from(half)[1:], half[_HEADER.size :]) for half in ours]

    def _newest(self, slots: list[tuple[int, int, int, bytes]]) -> tuple[_Stored, Window] | None:
        """Return the content of the last slot that was written completely, and its window."""
        for number, length, checksum, rest in sorted(slots, reverse=True):
            body = rest[:length]
            if len(body) == length and zlib.crc32(body) == checksum:
                self._sequence = number
                try:
                    stored = _decoder.decode(body)
                    return stored, unpack(stored.window, self._quotas)
                except (ValueError, ArithmeticError, RecursionError):
                    return None  # written by another version
        return None

    def _save(self, file: int, now: float) -> None:
        """Write the window to the older slot. Raises OSError."""
        self._sharers.append((self._me, now, terms_of(self._quotas)))
        body = _encoder.encode(_Stored(self._boot, pack(self.latest, self._sharers)))
        slot, needed = os.fstat(file).st_size // 2, _HEADER.size + len(body)
        if needed > slot:
            slot = -(-needed // _SLOT) * _SLOT
            os.posix_fallocate(file, 0, 2 * slot)  # so that only this can fail on a full disk
        self._sequence += 1
        head = _HEADER.pack(_MAGIC, self._sequence, len(body), zlib.crc32(body))
        os.pwrite(file, head + body, slot * (self._sequence % 2))

    def _run_step(self, step: Callable[[int, float], None], file: int, now: float) -> None:
        try:
            step(file, now)
        except OSError as error:
            self._mark_lost(error, now)

    def _mark_lost(self, error: OSError, now: float) -> None:
        self._retry_at = now + _RETRY_INTERVAL
        if not self._lost:
            self._lost = True
            self._warn_not_shared(str(error.strerror or error))
        self._use_own_part()


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
