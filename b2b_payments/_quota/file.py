"""A store's window in a small locked file, for all processes of this machine that name the same store.

The file has two slots, written in turns, each with a number and a checksum: whoever is killed while writing
leaves the other slot as it was, and what it was about to be granted it has not sent. Moments are those of the
machine's monotonic clock, which all processes share and nobody sets.
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
from b2b_payments._quota.state import REMEMBERED, State, packed, terms_of, unpacked
from b2b_payments._quota.window import Priority, Report, Verdict, Window

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")

_FOLDERS = ("/dev/shm", "/tmp")  # noqa: S108 - a folder of our own there, which nobody else can enter
_SLOT = 16 * 1024
"""Slots are of so many bytes, or a multiple."""
_HEAD = struct.Struct("<8sQII")
"""What says that it is ours, a slot's number, and the length and the checksum of what follows."""
_OURS = b"b2bquota"
_TRIES, _PAUSE = 20, 0.0001
"""How often a lock is tried that another holds, and the seconds in between: it is held for a fraction."""
_REMEDY = "give a file's path"
_BUSY = 1.0
"""Seconds after which a lock that is held all the time counts as lost: its holder was stopped."""
_AGAIN = 1.0
"""Seconds between two attempts to get a lost file back."""


class _Kept(msgspec.Struct, array_like=True):
    """What a slot holds: a window, and since which start of the machine its moments count."""

    boot: str
    window: State


_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(_Kept)


def path_for(key: StoreKey, shared: bool | str) -> Path:
    """Return the file of a store: the one named, or its own file in the folder named or the user's.

    That folder does not depend on the environment's variables: a job of cron and a shell have to meet. Raises
    ConfigurationError where there is none.
    """
    if fcntl is None:
        raise ConfigurationError("Quota(shared=…) needs POSIX locks; leave it out, and divide by `share`.")
    if isinstance(shared, str) and not Path(shared).is_dir():
        return Path(shared)
    name = f"quota-{digest_of(key, _REMEDY)}"
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


class FileBackend(SharedBackend):
    """A window in a file. Where that is lost, each process goes on alone, with its part of the quota."""

    def __init__(self, key: StoreKey, quota: Quota, known: Window | None = None) -> None:
        super().__init__(quota)
        if known is not None:
            self.latest = known
            self._quotas |= known.grants.quotas
        self.path = path_for(key, quota.shared or False)
        self.where = str(self.path)
        self._boot = _boot_id()
        self._file: int | None = None
        self._pid = os.getpid()
        self._number = 0
        self._reports: list[tuple[Report, float]] = []
        self._busy_since: float | None = None
        self._lost = False
        self._retry_at = 0.0
        self._unmerged = known is not None

    async def ask(
        self, member: int, priority: Priority, came: float, clock: Callable[[], float]
    ) -> Verdict | None:
        """Ask the window that the file holds, or where the file is lost, what is known of it."""
        return self.work(lambda window: window.ask(member, priority, came, clock()))

    def report(self, report: Report, now: float) -> None:
        """Take in what became of a request now, or before this process asks the next time."""
        with self._lock:
            self._reports.append((report, now))
            self.work(lambda _: None)

    def work(self, action: Callable[[Window], T]) -> T | None:
        """Work on the window now. None where another process has it for longer than a moment."""
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
                self._or_lose(self._load, file, now)
                done = self._do(action)
                if not self._lost:
                    self._or_lose(self._save, file, now)
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)
            return done

    def rest(self) -> None:
        """Close the file where no member takes part any more: there may be thousands of stores."""
        with self._lock:
            if self._file is not None and not self._members:
                os.close(self._file)
                # It may be another one by then.
                self._file, self._unmerged = None, True

    def _do(self, action: Callable[[Window], T]) -> T:
        while self._reports:
            self.latest.take_in(*self._reports[0])
            del self._reports[0]
        return action(self.latest)

    def _taken(self) -> int:
        """Open the file and lock it. Raises BlockingIOError where another holds the lock, and OSError."""
        if self._file is not None and (self._pid != os.getpid() or os.fstat(self._file).st_nlink == 0):
            # A child of a fork would share its parent's lock; a file that was removed is nobody else's.
            os.close(self._file)
            self._file, self._unmerged = None, True
        if self._file is None:
            self._file, self._pid = self._opened(), os.getpid()
        for _ in range(_TRIES):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_PAUSE)
            else:
                return self._file
        raise BlockingIOError

    def _opened(self) -> int:
        """Open the file; those may use a new one who may make files beside it. Raises OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            file = os.open(self.path, flags | os.O_EXCL, 0o600)
            os.fchmod(file, 0o600 | self.path.parent.stat().st_mode & 0o066)
        except FileExistsError:
            file = os.open(self.path, flags, 0o600)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise OSError(None, "it is no plain file")
        return file

    def _load(self, file: int, now: float) -> None:
        """Read the window. What this process knows is added where the file was lost or removed."""
        slots = self._slots(file)
        kept = self._newest(slots)
        if kept is not None and kept.boot == self._boot:
            window, sharers = unpacked(kept.window, self._quotas), kept.window.sharers
        else:
            window, sharers = Window(*self._quotas), []
        self._sharers = [one for one in sharers if one[0] != self._me and one[1] + REMEMBERED > now]
        if kept is None and (slots or self._number):
            # It is damaged, or another than before: nobody knows what was granted, so a whole window was.
            window.grants.fill(now)
        if self._lost or self._unmerged:
            window.grants.merge(self.latest.grants)
            window.close(self.latest.closed_until)
        if self._lost:
            self._say_shared_again()
        self._lost = self._unmerged = self._is_alone = False
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

    def _newest(self, slots: list[tuple[int, int, int, bytes]]) -> _Kept | None:
        """Return what was written last, of what was written whole."""
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
        self._sharers.append((self._me, now, terms_of(self._quotas)))
        body = _encoder.encode(_Kept(self._boot, packed(self.latest, self._sharers)))
        slot, needed = os.fstat(file).st_size // 2, _HEAD.size + len(body)
        if needed > slot:
            slot = -(-needed // _SLOT) * _SLOT
            os.posix_fallocate(file, 0, 2 * slot)  # a full disk is met here, and nowhere else
        self._number += 1
        head = _HEAD.pack(_OURS, self._number, len(body), zlib.crc32(body))
        os.pwrite(file, head + body, slot * (self._number % 2))

    def _or_lose(self, step: Callable[[int, float], None], file: int, now: float) -> None:
        try:
            step(file, now)
        except OSError as error:
            self._lose(error, now)

    def _lose(self, error: OSError, now: float) -> None:
        self._retry_at = now + _AGAIN
        if not self._lost:
            self._lost = True
            self._warn(str(error.strerror or error))
        self._go_alone()


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
