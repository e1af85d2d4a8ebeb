"""Sinks that write a log during the walk, and turn it into the requested format at the end."""

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
from b2b_payments.export._file import PathLike, copy_mode, create_file, path_of, sync_folder, write_whole
from b2b_payments.export._location import Location, location_of
from b2b_payments.export._log import Log, Part
from b2b_payments.export._manifest import manifest_path, pack_manifest
from b2b_payments.export._pages import rows_of
from b2b_payments.export._sink import Checkpoint

_MAX_BUFFER = 32 * 2**20


class PlacedSink(ABC):
    """A sink that writes to a path or to an object store.

    During the walk it writes payments to a log in the hidden folder ``.NAME.export``, and at the end it makes
    the output from the log. The log survives a crash at any time, and is removed once the output is in place;
    resuming an export that was interrupted in between makes the output again. An export whose walk is not
    proven complete never replaces one that may be: it is written to ``NAME.incomplete.EXTENSION``.

    Unless a subclass says otherwise, the output is one or more files. Each existing file is replaced in one
    step; the permissions of the first one carry over to all. A symbolic link is followed and stays a link.

    A URL (``s3://bucket/name``, ``gs://``, ``az://``, extra ``cloud``) names an object store, which holds the
    log. The output is made in a temporary folder and uploaded; ``NAME.manifest.json`` names its objects.

    `variant` names how a sink's lines differ from the format's usual ones: only the same one resumes them.

    Raises ConfigurationError if the path is not writable. The methods raise ExportError, and
    ResponseDecodeError for a payment that cannot be read.
    """

    format: ClassVar[str]
    instead: Path | str | None = None
    """Where an incomplete export was written, if not to `path`, since the one there may be complete."""
    objects: tuple[str, ...] = ()
    """The URLs of the data, once it is published in an object store."""
    resumed: bool = False
    """Whether `resume` found an interrupted export."""
    _checkpoint: Checkpoint | None = None

    def __init__(self, path: PathLike, *, variant: str = "") -> None:
        self._location = location_of(path, self.targets)
        self.path: Path | str = self._location.shown
        self.target: Path = self._location.target
        self.work: Path = self._location.folder.path
        self._log = Log(self._location.folder, f"{self.format}{variant}", self.path)
        self._locations: list[Location] = []
        self._kept: bool | None = None
        self._opened = False
        self._buffer: list[Sequence[Part]] = []
        self._staged: list[StagedFile] = []

    @property
    def kept(self) -> bool:
        """Whether there is an interrupted export to resume."""
        if self._kept is None:
            with suppress(OSError, ExportError):
                return self._log.exists
        return bool(self._kept)

    @property
    def rows(self) -> int:
        """The number of committed payments, including those of the interrupted export."""
        # Another version may have written anything here; resuming from it raises an error.
        rows = (self._account or {}).get("rows")
        return rows if isinstance(rows, int) else 0

    @abstractmethod
    def lines(self, batch: Sequence[Mapping[str, Any]]) -> Sequence[Part]:
        """Return the log's lines for payments, in one part for each table (one or two)."""

    @classmethod
    def targets(cls, target: Path) -> Sequence[Path]:
        """Return the files for a target. A class method, so that no location keeps a sink's locks alive."""
        return [target]

    def check(self, target: Path) -> None:  # noqa: B027 - most formats can replace anything
        """Raise an error if the output could not replace what exists at the target."""

    def holds(self, target: Path) -> bool:
        """Whether an export exists at the target."""
        return target.exists()

    def fill(self, log: Log, files: Sequence[StagedFile]) -> None:
        """Write the files from the log: by default, its lines as they are."""
        for parts in log.segments():
            for file, lines in zip(files, parts, strict=True):
                file.write(lines)

    def make(self, target: Path) -> Mapping[str, str]:
        """Make the output from the log. Returns the hashes for the manifest."""
        like, targets = self.target if self.target.exists() else None, self.targets(target)
        self._staged = [StagedFile(self.work / f"made{number}", like) for number, _ in enumerate(targets)]
        try:
            self.fill(self._log, self._staged)
            return {final.name: staged.finish() for staged, final in zip(self._staged, targets, strict=True)}
        finally:
            for staged in self._staged:
                staged.file.close()

    def place(self, target: Path) -> None:
        """Move the files into place, the first one last. The manifest follows."""
        for staged, final in reversed(list(zip(self._staged, self.targets(target), strict=True))):
            staged.move(final)

    def open(self) -> None:
        """Start a new export, and remove what an interrupted one left: in an object store, at its end."""
        self._begin()
        with self._location.writing():
            self._log.begin(self.lines([]))
        self._checkpoint, self.resumed, self._opened = None, False, True

    def resume(self) -> Checkpoint | None:
        """Resume after the last commit. Returns its checkpoint, or None if nothing was committed."""
        self._begin()
        with self._location.writing():
            self._checkpoint = self._log.resume(self.lines([]))
            if self._checkpoint is None:
                self._refuse_older()
                self._log.begin(self.lines([]))
        self._opened, self.resumed = True, self._checkpoint is not None
        return self._checkpoint

    def write(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Add payments. Raises an error for those that the format cannot hold exactly."""
        self._check_opened()
        self._buffer.append(self.lines(batch))
        if sum(len(piece) for parts in self._buffer for part in parts for piece in part) > _MAX_BUFFER:
            self._append(None)

    def commit(self, checkpoint: Checkpoint | None) -> None:
        """Write everything added so far to the log, together with the checkpoint."""
        self._check_opened()
        self._append(checkpoint)
        self._checkpoint = self._checkpoint if checkpoint is None else checkpoint

    def close(self, *, complete: bool) -> None:
        """Make and publish the output if `complete`. Otherwise keep what was committed, for `resume`."""
        opened, kept = self._opened, self._checkpoint is not None
        try:
            if complete:
                self._check_opened()
                self._publish()
                kept = False
        finally:
            self._opened, self._buffer = False, []
            if opened:
                self._kept = kept and not self._log.taken_over
            if opened and not kept and not self._log.maybe_written:
                with suppress(OSError, ExportError):
                    self._log.discard()
            while self._locations:
                self._locations.pop().leave()

    def _begin(self) -> None:
        self._kept, self._buffer = False, []
        self.instead, self.objects = None, ()
        self._enter(self._location)
        with self._location.writing():
            if self._location.has_export(self.holds):
                self._location.incomplete_location()  # raises now, not after the walk, if it is not writable
        self._kept = None

    def _enter(self, location: Location) -> None:
        self._locations.append(location)
        with self._location.writing():
            location.enter()
            self.check(location.target)

    def _refuse_older(self) -> None:
        """Raise ExportError if there is an interrupted export of this library's first version."""
        left = self.target.with_name(f".{self.target.name}.checkpoint")
        if left.exists():
            raise ExportError(
                f"The interrupted export to {self.path} is by an earlier version and cannot be resumed: "
                f"remove {left} and other files named .{self.target.name}.*, and start again."
            )

    def _check_opened(self) -> None:
        if not self._opened:
            raise ConfigurationError(f"{self.path} is not open: call open() first.")

    def _append(self, checkpoint: Checkpoint | None) -> None:
        if self._buffer or checkpoint is not None or not self._log.exists:
            buffered, self._buffer = self._buffer or [self.lines([])], []
            parts = [list(chain.from_iterable(part)) for part in zip(*buffered, strict=True)]
            with self._location.writing():
                self._log.append(parts, checkpoint)

    def _publish(self) -> None:
        self._append(None)
        with self._location.writing():
            location = self._free_location()
            target = location.target
            like = self.target if self.target.exists() else None
            manifest, hidden = manifest_path(target), self.work / "manifest"
            if self._is_incomplete:
                # Before the data: after a crash, the data must not pass for a complete export.
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
        """The account of what was committed, or None if the caller's checkpoint has none."""
        account = (self._checkpoint or {}).get("account")
        return account if isinstance(account, Mapping) else None

    def _manifest(self, location: Location, hashes: Mapping[str, str]) -> bytes | None:
        account = self._account
        return (
            None if account is None else pack_manifest(account, self.format, hashes, location.manifest_fields)
        )

    @property
    def _is_incomplete(self) -> bool:
        return self._account is not None and not self._account.get("complete")

    def _free_location(self) -> Location:
        """Return where to publish: another location if this export must not replace the one that exists."""
        location = self._location
        while self._is_incomplete and location.has_export(self.holds):
            location = location.incomplete_location()
            self.instead = location.shown
        if location is not self._location:
            self._enter(location)
        return location


class TableSink(PlacedSink):
    """A sink of rows. The log only has rows that the format can hold, so none is refused at the end."""

    decimal: ClassVar[bool] = False
    """Whether amounts must fit into a decimal column."""
    whole: ClassVar[bool] = False
    """Whether integers must fit into 64 bits."""

    @abstractmethod
    def encode_rows(self, rows: Rows) -> Sequence[bytes]:
        """Return the log's lines for rows, for each table (one or two)."""

    def read(self, batch: Sequence[Mapping[str, Any]]) -> Iterable[Rows]:
        """Return payments as rows; for an empty batch, one `Rows` without rows."""
        return rows_of(batch or [], whole=self.whole, decimal=self.decimal)

    def lines(self, batch: Sequence[Mapping[str, Any]]) -> Sequence[Part]:
        return list(zip(*map(self.encode_rows, self.read(batch)), strict=True))


class StagedFile:
    """A file that is being made in the log's folder, with the hash and size of what was written to it."""

    def __init__(self, path: Path, like: Path | None) -> None:
        self.path = path
        self.file = create_file(path, like)
        self._like = like
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes | memoryview) -> None:
        self.file.write(data)
        self._hash.update(data)
        self._size += len(data)

    def hash_content(self) -> None:
        """Hash what another library wrote to the path."""
        self.file.close()
        self.file = self.path.open("r+b")
        copy_mode(self.path, self._like)
        self._hash = hashlib.file_digest(self.file, "sha256")
        self._size = self.file.tell()

    def finish(self) -> str:
        """Sync the file to disk. Returns its SHA-256."""
        self.file.flush()
        os.fsync(self.file.fileno())
        return self._hash.hexdigest()

    def move(self, target: Path) -> None:
        """Move the file to its target. Raises ExportError if its size has changed since it was written."""
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            size = -1
        if size != self._size:
            raise ExportError(
                f"{target} was not written: another program changed {self.path.name}. Resume the export."
            )
        self.path.replace(target)


def sink_for(path: PathLike, format: str | None = None, **options: Any) -> PlacedSink:  # noqa: A002
    """Return a sink for a path or a URL: ``sink_for("s3://bucket/payments.parquet")``.

    `format` is ``jsonl``, ``csv``, ``parquet``, ``sqlite`` or ``duckdb``; by default the extension decides.
    `options` are passed to the sink's class: ``sink_for("payments.csv", spreadsheet_safe=True)``.

    Raises ConfigurationError for an unknown format, a missing extra, or a path that is not writable.
    """
    if format is not None and path in FORMATS and format not in FORMATS:
        path, format = format, path  # noqa: A001 - the first version's order: sink_for("csv", "payments")
    if format is not None and format not in FORMATS:
        raise ConfigurationError(f"{shown(format)} is not a format: give {', '.join(FORMATS)}.")
    make: Any = getattr(import_module("b2b_payments.export"), FORMATS[format or format_of(path)].sink)
    sink: PlacedSink = make(path, **options)
    return sink


def format_of(path: PathLike, format_: str | None = None) -> str:
    """Return the format of a file: `format_`, or else the one for its extension.

    Raises ConfigurationError if neither names a format, or if they disagree.
    """
    output = os.fspath(path_of(path))
    by_ending = format_by_ending(output)
    if is_url(output):
        bucket_and_name(output)  # raises for a URL with a password, which the errors below would show
    if format_ is None and by_ending is None:
        raise ConfigurationError(
            f"The format of {output!r} is unknown: pass a format, or use an extension such as .jsonl."
        )
    if format_ is not None and by_ending not in {None, format_}:
        raise ConfigurationError(
            f"{output!r} has the extension of {by_ending}, but the format given is {format_}: "
            "change one of the two."
        )
    return format_ or by_ending or ""
