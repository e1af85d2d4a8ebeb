"""Sinks that keep a log while they are written to, and make what was asked for of it at the end."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from b2b_payments._errors import ConfigurationError, ExportError
from b2b_payments.export._file import (
    Lock,
    PathLike,
    created,
    sync_folder,
    take_permissions,
    writable,
    write_whole,
    writing,
)
from b2b_payments.export._log import Folder, Log
from b2b_payments.export._manifest import manifest_of, manifest_path
from b2b_payments.export._pages import PageBatch
from b2b_payments.export._reading import RowReader
from b2b_payments.export._rows import lines_of
from b2b_payments.export._sink import Checkpoint

_MOST_HELD = 32 * 2**20
_CHUNK = 2**20
_BESIDE = ("{}.manifest.json", ".{}.export.old", ".{}.lock")

Segments = Callable[[], Iterator[bytes]]
"""Gives the lines of a log, segment by segment; more than once, where that is needed."""


class LoggedSink(ABC):
    """Writes payments into the log in the hidden folder ``.NAME.export``, and at the end what is asked for.

    The log survives a kill at any instant, and is gone once all is in its place. What is made of it is made
    again where that was interrupted.

    Raises ConfigurationError for a path that cannot be written to; its methods raise ExportError, and
    ResponseDecodeError for a payment that cannot be read.
    """

    format: ClassVar[str]

    def __init__(self, path: PathLike) -> None:
        self.path: Path = Path(path)
        self.target: Path = writable(path, _BESIDE)
        self.work: Path = self.target.with_name(f".{self.target.name}.export")
        self._storage = Folder(self.work)
        self._log = Log(self._storage, self.format, self.path)
        self._locks = [Lock(target) for target in self.targets]
        self._opened = False
        self._checkpoint: Checkpoint | None = None
        self._waiting: list[bytes] = []

    @property
    def targets(self) -> Sequence[Path]:
        """What is made in the end."""
        return [self.target]

    @property
    def kept(self) -> bool:
        """Whether an export that was closed as not complete can be resumed."""
        with suppress(OSError, ExportError):
            return bool(self._storage.sizes())
        return False

    @abstractmethod
    def check(self) -> None:
        """Raise where what will be made could not take its place."""

    @abstractmethod
    def lines(self, batch: Sequence[Mapping[str, Any]]) -> bytes:
        """Give the lines of payments, as the log has them."""

    @abstractmethod
    def make(self, segments: Segments) -> Mapping[str, str]:
        """Make of the log's lines what was asked for; give the hashes for the manifest."""

    def place(self) -> None:
        """Let what was made take its place, before its manifest does."""
        return

    def open(self) -> None:
        """Begin; what an interrupted export left is removed."""
        self._acquire()
        with writing(self.path):
            self.check()
            self._log.clear()
        self._opened = True

    def resume(self) -> Checkpoint | None:
        """Go on behind the last commit, and give its checkpoint; None where there was none."""
        self._acquire()
        with writing(self.path):
            self.check()
            self._checkpoint = self._log.last()
            if self._checkpoint is None:
                self._log.clear()
        self._opened = True
        return self._checkpoint

    def write(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Take payments; they are read, and refused where the format cannot hold them exactly."""
        self._check_opened()
        self._waiting.append(self.lines(batch))
        if sum(map(len, self._waiting)) > _MOST_HELD:
            self._append(None)

    def commit(self, checkpoint: Checkpoint | None) -> None:
        """Put everything written so far on the disk, together with the checkpoint."""
        self._check_opened()
        self._append(checkpoint)
        self._checkpoint = self._checkpoint if checkpoint is None else checkpoint

    def close(self, *, complete: bool) -> None:
        """Let what was asked for appear where it is complete; otherwise keep what was committed."""
        opened, self._opened = self._opened, False
        try:
            if complete and not opened:
                raise self._not_open()
            if complete:
                self._publish()
        finally:
            self._waiting = []
            if opened and self._checkpoint is None:
                with suppress(OSError, ExportError):
                    self._log.clear()
            for lock in self._locks:
                lock.release()

    def _acquire(self) -> None:
        for lock in self._locks:
            lock.acquire()

    def _check_opened(self) -> None:
        if not self._opened:
            raise self._not_open()

    def _not_open(self) -> ConfigurationError:
        return ConfigurationError(f"{self.path} is not open: call open() first.")

    def _append(self, checkpoint: Checkpoint | None) -> None:
        if self._waiting or checkpoint is not None:
            lines, self._waiting = b"".join(self._waiting), []
            with writing(self.path):
                self._log.append(lines, checkpoint)

    def _publish(self) -> None:
        self._append(None)
        with writing(self.path):
            if not self.work.exists():
                self.work.mkdir(0o700)
            hashes = self.make(self._log.segments)
            text = manifest_of(self._checkpoint, self.format, hashes)
            manifest = manifest_path(self.target)
            hidden = self.work / "manifest"
            if text is not None:
                write_whole(hidden, text, self.target if self.target.exists() else None)
            self.place()
            if text is None:
                manifest.unlink(missing_ok=True)
            else:
                hidden.replace(manifest)
            sync_folder(self.target.parent)
            self._log.clear()
            self._checkpoint = None


class TableSink(LoggedSink):
    """A sink of rows. Their lines in the log have passed the row types: none is refused later."""

    decimal: ClassVar[bool] = False
    whole: ClassVar[bool] = False

    def __init__(self, path: PathLike) -> None:
        super().__init__(path)
        self._reader = RowReader(decimal=self.decimal, whole=self.whole)

    def lines(self, batch: Sequence[Mapping[str, Any]]) -> bytes:
        """Give the lines of rows."""
        rows = batch.rows(self._reader) if isinstance(batch, PageBatch) else self._reader.objects(batch)
        return lines_of(rows)


class FileSink(LoggedSink):
    """A sink that makes files. Those that stand there already are replaced in one step each.

    They take over the permissions of the first. A symbolic link is followed, and stays a link.
    """

    def check(self) -> None:
        """Nothing more to check."""

    @abstractmethod
    def fill(self, segments: Segments, files: Sequence[Made]) -> None:
        """Write the files."""

    def make(self, segments: Segments) -> Mapping[str, str]:
        """Make the files beside their places."""
        like = self.target if self.target.exists() else None
        self._made = [Made(self.work / f"made{number}", like) for number, _ in enumerate(self.targets)]
        try:
            self.fill(segments, self._made)
            return {target.name: made.finish() for made, target in zip(self._made, self.targets, strict=True)}
        finally:
            for made in self._made:
                made.close()

    def place(self) -> None:
        """Let the files take their places, the first one last."""
        for made, target in reversed(list(zip(self._made, self.targets, strict=True))):
            made.move(target)


class Made:
    """A file on its way, and the hash of what was written into it."""

    def __init__(self, path: Path, like: Path | None) -> None:
        self.path = path
        self._like = like
        self._file = created(path, like)
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> None:
        """Write behind what was written."""
        self._file.write(data)
        self._hash.update(data)
        self._size += len(data)

    def written(self) -> None:
        """Take in what another library has put at the path."""
        self._file.close()
        self._file = self.path.open("r+b")
        take_permissions(self.path, self._like)
        while data := self._file.read(_CHUNK):
            self._hash.update(data)
            self._size += len(data)

    def finish(self) -> str:
        """Put it on the disk, and give its SHA-256."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._hash.hexdigest()

    def close(self) -> None:
        """Close it, as it is."""
        self._file.close()

    def move(self, target: Path) -> None:
        """Let it take its place. Raises ExportError where it is not what was written any more."""
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            size = -1
        if size != self._size:
            raise ExportError(
                f"{target} was not written: {self.path.name} of it was changed from outside. Resume."
            )
        self.path.replace(target)
