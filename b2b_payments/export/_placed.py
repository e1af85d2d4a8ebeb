"""Sinks that keep a log while they are written to, and make of it at the end what was asked for."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

from b2b_payments._errors import ConfigurationError, ExportError, shown
from b2b_payments._formats import FORMATS, format_by_ending
from b2b_payments._tables.rows import Rows
from b2b_payments.export._bucket import bucket_and_name, is_url
from b2b_payments.export._file import PathLike, created, path_of, sync_folder, take_permissions, write_whole
from b2b_payments.export._location import Location, location_of
from b2b_payments.export._log import Log, Part
from b2b_payments.export._manifest import manifest_of, manifest_path
from b2b_payments.export._pages import rows_of
from b2b_payments.export._sink import Checkpoint

_MOST_HELD = 32 * 2**20
_CHUNK = 2**20


class PlacedSink(ABC):
    """A sink with a place in the file system, or in an object store.

    It writes payments into the log in the hidden folder ``.NAME.export``, and at the end what is asked for.

    The log survives a kill at any instant, and is gone once all is in its place. What is made of it is made
    again where that was interrupted. An export whose walk is not proven complete never takes the place of
    one that may be: then it is made beside that, as ``NAME.incomplete.ENDING``.

    Where a subclass does not say otherwise, files are made. Those that stand there already are replaced in
    one step each; the first one's permissions are taken over. A symbolic link is followed, and stays a link.

    A URL (``s3://bucket/name``, ``gs://``, ``az://``, extra ``cloud``) is an object store: the log is there,
    what is made of it is made in a temporary folder and put there, and ``NAME.manifest.json`` says where.

    Raises ConfigurationError for a path that cannot be written to; its methods raise ExportError, and
    ResponseDecodeError for a payment that cannot be read.
    """

    format: ClassVar[str]
    instead: Path | str | None = None
    """Where the export is, if not at its place: one that may be complete stays there."""
    objects: tuple[str, ...] = ()
    """The URLs of the data, once it is in an object store."""
    resumed: bool = False
    """Whether there was something to go on behind."""
    _checkpoint: Checkpoint | None = None

    def __init__(self, path: PathLike) -> None:
        self._location = location_of(path, self.targets)
        self.path: Path | str = self._location.shown
        self.target: Path = self._location.target
        self.work: Path = self._location.folder.path
        self._log = Log(self._location.folder, self.format, self.path)
        self._entered: list[Location] = []
        self._kept: bool | None = None
        self._opened = False
        self._waiting: list[Sequence[Part]] = []
        self._made: list[Made] = []

    @property
    def kept(self) -> bool:
        """Whether an export that was closed as not complete can be resumed."""
        if self._kept is None:
            with suppress(OSError, ExportError):
                return self._log.is_there
        return bool(self._kept)

    @property
    def rows(self) -> int:
        """How many payments were committed, those of interrupted exports included."""
        # What another version committed is refused by whoever goes on with it, in a sentence.
        rows = (self._account or {}).get("rows")
        return rows if isinstance(rows, int) else 0

    @abstractmethod
    def lines(self, batch: Sequence[Mapping[str, Any]]) -> Sequence[Part]:
        """Return the lines of payments, as the log has them: of one table, or of two."""

    @classmethod
    def targets(cls, target: Path) -> Sequence[Path]:
        """Return the files made for a target. A class method: a location holding its sink would keep
        it alive, and its locks with it.
        """
        return [target]

    def check(self, target: Path) -> None:  # noqa: B027 - of most formats, all can
        """Raise where what will be made could not take its place."""

    def holds(self, target: Path) -> bool:
        """Whether an export stands there already."""
        return target.exists()

    def fill(self, log: Log, files: Sequence[Made]) -> None:
        """Write the files: the log's own lines."""
        for parts in log.segments():
            for file, lines in zip(files, parts, strict=True):
                file.write(lines)

    def make(self, target: Path) -> Mapping[str, str]:
        """Make of the log's lines what was asked for; give the hashes for the manifest."""
        like, targets = self.target if self.target.exists() else None, self.targets(target)
        self._made = [Made(self.work / f"made{number}", like) for number, _ in enumerate(targets)]
        try:
            self.fill(self._log, self._made)
            return {one.name: made.finish() for made, one in zip(self._made, targets, strict=True)}
        finally:
            for made in self._made:
                made.file.close()

    def place(self, target: Path) -> None:
        """Let what was made take its place, before its manifest does: the first file last."""
        for made, one in reversed(list(zip(self._made, self.targets(target), strict=True))):
            made.move(one)

    def open(self) -> None:
        """Begin; what an interrupted export left is removed."""
        self._begin()
        with self._location.writing():
            self._log.begin(self.lines([]))
        self._checkpoint, self.resumed, self._opened = None, False, True

    def resume(self) -> Checkpoint | None:
        """Go on behind the last commit, and give its checkpoint; None where there was none."""
        self._begin()
        with self._location.writing():
            self._checkpoint = self._log.resume(self.lines([]))
            if self._checkpoint is None:
                self._refuse_older()
                self._log.begin(self.lines([]))
        self._opened, self.resumed = True, self._checkpoint is not None
        return self._checkpoint

    def write(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Take payments; they are read, and refused where the format cannot hold them exactly."""
        self._check_opened()
        self._waiting.append(self.lines(batch))
        if sum(len(piece) for parts in self._waiting for part in parts for piece in part) > _MOST_HELD:
            self._append(None)

    def commit(self, checkpoint: Checkpoint | None) -> None:
        """Put everything written so far on the disk, together with the checkpoint."""
        self._check_opened()
        self._append(checkpoint)
        self._checkpoint = self._checkpoint if checkpoint is None else checkpoint

    def close(self, *, complete: bool) -> None:
        """Let what was asked for appear where it is complete; otherwise keep what was committed."""
        opened, kept = self._opened, self._checkpoint is not None
        try:
            if complete:
                self._check_opened()
                self._publish()
                kept = False
        finally:
            self._opened, self._waiting = False, []
            if opened:
                self._kept = kept and not self._log.lost
            if opened and not kept and not self._log.in_doubt:
                with suppress(OSError, ExportError):
                    self._log.clear()
            while self._entered:
                self._entered.pop().leave()

    def _begin(self) -> None:
        self._kept, self._waiting = False, []
        self._enter(self._location)
        self._kept = None

    def _enter(self, location: Location) -> None:
        self._entered.append(location)
        with self._location.writing():
            location.enter()
            self.check(location.target)

    def _refuse_older(self) -> None:
        """Raise where the first version of this library left an export that was interrupted."""
        left = self.target.with_name(f".{self.target.name}.checkpoint")
        if left.exists():
            raise ExportError(
                f"What was kept of {self.path} is by an earlier version, and cannot be resumed: "
                f"remove {left} and what else is called .{self.target.name}, and start again."
            )

    def _check_opened(self) -> None:
        if not self._opened:
            raise ConfigurationError(f"{self.path} is not open: call open() first.")

    def _append(self, checkpoint: Checkpoint | None) -> None:
        if self._waiting or checkpoint is not None or not self._log.is_there:
            waiting, self._waiting = self._waiting or [self.lines([])], []
            parts = [list(chain.from_iterable(part)) for part in zip(*waiting, strict=True)]
            with self._location.writing():
                self._log.append(parts, checkpoint)

    def _publish(self) -> None:
        self._append(None)
        with self._location.writing():
            location = self._place_for_it()
            target = location.target
            like = self.target if self.target.exists() else None
            manifest, hidden = manifest_path(target), self.work / "manifest"
            if self._is_incomplete:
                # First of all: after a kill, it is not to be taken for one that may be complete.
                write_whole(hidden, self._manifest(location, {}) or b"", like=like)
                hidden.replace(manifest)
            text = self._manifest(location, self.make(target))
            if text is not None:
                write_whole(hidden, text, like=like)
            self.place(target)
            if text is None:
                manifest.unlink(missing_ok=True)
            else:
                hidden.replace(manifest)
            sync_folder(target.parent)
            location.publish(text)
            self.objects = location.objects
            self._log.clear()

    @property
    def _account(self) -> Mapping[str, Any] | None:
        """The account of what was committed, None where the caller gives none."""
        account = (self._checkpoint or {}).get("account")
        return account if isinstance(account, Mapping) else None

    def _manifest(self, location: Location, hashes: Mapping[str, str]) -> bytes | None:
        account = self._account
        return None if account is None else manifest_of(account, self.format, hashes, location.marks)

    @property
    def _is_incomplete(self) -> bool:
        return self._account is not None and not self._account.get("complete")

    def _place_for_it(self) -> Location:
        """Return the place: another one, where an export stands that is not known to be incomplete."""
        location = self._location
        while self._is_incomplete and location.stands(self.holds):
            location = location.beside()
            self.instead = location.shown
        if location is not self._location:
            self._enter(location)
        return location


class TableSink(PlacedSink):
    """A sink of rows. Those in the log are in one spelling, and fit: none is refused later."""

    decimal: ClassVar[bool] = False
    whole: ClassVar[bool] = False

    @abstractmethod
    def spelled(self, rows: Rows) -> Sequence[bytes]:
        """Return the lines of rows, as the log has them: of one table, or of two."""

    def read(self, batch: Sequence[Mapping[str, Any]]) -> Iterable[Rows]:
        """Read payments; of none, rows of none."""
        return rows_of(batch or [], whole=self.whole, decimal=self.decimal)

    def lines(self, batch: Sequence[Mapping[str, Any]]) -> Sequence[Part]:
        return list(zip(*map(self.spelled, self.read(batch)), strict=True))


class Made:
    """A file on its way, and the hash of what was written into it."""

    def __init__(self, path: Path, like: Path | None) -> None:
        self.path = path
        self.file = created(path, like)
        self._like = like
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Write behind what was written."""
        self.file.write(data)
        self._hash.update(data)
        self._size += len(data)

    def written(self) -> None:
        """Take in what another library has put at the path."""
        self.file.close()
        self.file = self.path.open("r+b")
        take_permissions(self.path, self._like)
        while data := self.file.read(_CHUNK):
            self._hash.update(data)
            self._size += len(data)

    def finish(self) -> str:
        """Put it on the disk, and give its SHA-256."""
        self.file.flush()
        os.fsync(self.file.fileno())
        return self._hash.hexdigest()

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


def sink_for(path: PathLike, format: str | None = None, **options: Any) -> PlacedSink:  # noqa: A002
    """Return a sink for a path or a URL: ``sink_for("s3://bucket/payments.parquet")``.

    The format is ``jsonl``, ``csv``, ``parquet``, ``sqlite`` or ``duckdb``; it need not be given where the
    ending says it. `options` are those of its class.

    Raises ConfigurationError for another format, a missing extra, or a path that cannot be written to.
    """
    if format is not None and path in FORMATS and format not in FORMATS:
        path, format = format, path  # noqa: A001 - as the first version had it: sink_for("csv", "payments")
    if format is not None and format not in FORMATS:
        raise ConfigurationError(f"{shown(format)} is not a format: give {', '.join(FORMATS)}.")
    make: Any = getattr(import_module("b2b_payments.export"), FORMATS[format or format_of(path)].sink)
    sink: PlacedSink = make(path, **options)
    return sink


def format_of(path: PathLike, format_: str | None = None) -> str:
    """Return the format of a file: the one given, or else the one that its ending says.

    Raises ConfigurationError where nothing says it, or its ending says another.
    """
    output = os.fspath(path_of(path))
    by_ending = format_by_ending(output)
    if is_url(output):
        bucket_and_name(output)  # another address may have a password in it
    if format_ is None and by_ending is None:
        raise ConfigurationError(
            f"{output!r} does not say its format: name the format, or give an ending such as .jsonl."
        )
    if format_ is not None and by_ending not in {None, format_}:
        raise ConfigurationError(
            f"{output!r} has the ending of {by_ending}, and the format given is {format_}: "
            "change one of the two."
        )
    return format_ or by_ending or ""
