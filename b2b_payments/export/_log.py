"""The log of an export: all that it writes during the walk, and all that it needs to resume after a crash.

It is a sequence of numbered segments. Each is written once, as a whole: a header line with its sizes,
checksums and checkpoint, and a checksum of itself, then lines of JSON or CSV. The lines of a second table are
in a file of their own, written first, since a segment exists once its first file does. A written segment
never changes, so the file or database made from the log can be made again.
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from itertools import accumulate, pairwise
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryFile
from typing import Annotated, Any, ClassVar

import msgspec

from b2b_payments._errors import ExportError, shown
from b2b_payments._regular import read_regular
from b2b_payments.export._file import sync_folder, write_whole
from b2b_payments.export._sink import Checkpoint

_VERSION = 4
_SEAL = b',"own_crc32":'
"""Precedes the header's checksum of itself, its last field. Headers of earlier versions do not have it."""
_is_segment_file = re.compile(r"[0-9]{8}(?:\.[1-9])?").fullmatch
# DuckDB first writes to a file `tmp_`.
_is_log_file = re.compile(r"(?:[0-9]{8}(?:\.[1-9])?|manifest|(?:tmp_)?made[0-9])(?:\.new)?").fullmatch
_LONGEST_HEADER = 1 << 20

Part = Sequence[bytes]
"""The lines of one table, in one or more pieces."""


class LogFolder:
    """A log in a hidden folder that only its owner may read, created with the first segment."""

    contested: ClassVar[bool] = False
    """Whether two writers are possible, without a lock: only that no segment is replaced keeps them apart."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._discarded = path.with_name(f"{path.name}.old")

    def sizes(self) -> Mapping[int, int]:
        """Return the total size in bytes of each existing segment's files, by its number."""
        self.check()
        totals: Counter[int] = Counter()
        try:
            with os.scandir(self.path) as files:
                names = {one.name: one.stat(follow_symlinks=False).st_size for one in files}
        except FileNotFoundError:
            return {}
        for name in filter(_is_segment_file, names):
            if name[:8] in names:
                totals[int(name[:8])] += names[name]
        return totals

    def get(self, number: int, part: int = 0, most: int = -1) -> bytes:
        """Return the bytes of a part, or only the first `most`."""
        return read_regular(self.file(number, part), most)

    def file(self, number: int, part: int = 0) -> Path:
        """Return the file of a part. If it is missing, raises FileNotFoundError here or when it is opened."""
        return self.path / _name(number, part)

    def put(self, number: int, parts: Sequence[Part]) -> None:
        """Write a segment. Raises FileExistsError if it exists."""
        if not _is_own(self.path):
            self.path.mkdir(0o700)
            sync_folder(self.path.parent)
        if (self.path / _name(number)).exists():
            raise FileExistsError(number)
        for part, pieces in reversed([*enumerate(parts)]):
            write_whole(self.path / _name(number, part), *pieces)
            sync_folder(self.path)

    def remove(self, numbers: Collection[int]) -> None:
        for number in numbers:
            (self.path / _name(number)).unlink()

    def check(self) -> None:
        """Raise ExportError unless all that is in the log's place is from this user's exports."""
        for folder in filter(_is_own, (self.path, self._discarded)):
            with os.scandir(folder) as entries:
                others = [one.name for one in entries if not _is_known(one)]
            if others:
                raise ExportError(
                    f"{folder} holds {shown(min(others))}, which no export created: move it elsewhere."
                )

    def clear(self) -> None:
        """Remove all segments, if possible in one step. What else is in their place stays."""
        _remove(self._discarded)
        try:
            self.path.rename(self._discarded)
        except OSError:  # nothing to remove, or something else has that name
            _remove(self.path)
        else:
            _remove(self._discarded)


def _is_own(folder: Path) -> bool:
    """Whether a log's folder exists. Raises ExportError if it is another user's, or not a folder."""
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(status.st_mode):
        raise ExportError(f"{folder} was not created by an export: remove it.")
    if not hasattr(os, "geteuid") or status.st_uid != os.geteuid():
        # Some file systems give all files to one user, so compare with a file of ours.
        with TemporaryFile(dir=folder.parent) as ours:
            if status.st_uid != os.fstat(ours.fileno()).st_uid:
                raise ExportError(f"{folder} belongs to another user: export as that user, or remove it.")
    return True


def _is_known(entry: os.DirEntry[str]) -> bool:
    """Whether a file is of a log, or hidden: operating systems put such files into any folder."""
    name = entry.name
    return name.startswith(".") or bool(_is_log_file(name) and entry.is_file(follow_symlinks=False))


def _remove(folder: Path) -> None:
    """Remove a folder with the files of a log. What else is in it stays, and so does what a link names."""
    if folder.is_symlink():
        return
    with suppress(OSError):
        for name in filter(_is_log_file, os.listdir(folder)):
            (folder / name).unlink()
        folder.rmdir()


_Size = Annotated[int, msgspec.Meta(ge=0)]


class _Header(msgspec.Struct, omit_defaults=True):
    """The first line of a segment: sizes and checksums of its parts, and the bytes in earlier segments."""

    version: int
    format: str
    sizes: Annotated[list[_Size], msgspec.Meta(min_length=1, max_length=10)]
    crc32: list[int]
    before: int
    checkpoint: dict[str, Any] | None = None
    since: int = 1  # the first segment of the log
    without: list[int] = []  # numbers after `since` that are not in the log
    writer: str = ""  # random if `contested`, so that a writer never takes another's segment for its own


def _sealed(fields: bytes) -> bytes:
    """Return the line of an encoded header, with its checksum."""
    return b"%b%b%d}\n" % (fields.removesuffix(b"}"), _SEAL, zlib.crc32(fields))


class Log:
    """The segments of one export. Its methods raise ExportError if the log is damaged, otherwise OSError.

    If two writers are possible (`contested`), each starts by writing an empty segment. It has the number that
    an earlier writer would use next, so the earlier one can write nothing more. It removes no segment of
    another writer, which may still need it, until the manifest has changed. So the log of an earlier writer
    can be resumed until the later one has committed, and headers list the numbers to skip (`without`).
    """

    def __init__(self, folder: LogFolder, format_: str, path: object) -> None:
        self._folder = folder
        self._format = format_
        self._path = path
        self._writer = token_hex(8) if folder.contested else ""
        self._numbers: list[int] = []
        self._last = 0
        self._bytes = 0
        self.taken_over: bool = False
        """Whether another writer has taken over."""
        self.maybe_written: bool = False
        """Whether a segment whose writing failed may exist in the object store, so that the log must stay."""

    @property
    def exists(self) -> bool:
        return bool(self._numbers or self._folder.sizes())

    def clear(self) -> None:
        """Remove all segments, once the output is published."""
        self._numbers, self._bytes, self._last = [], 0, 0
        self._folder.clear()

    def discard(self) -> None:
        """Remove what was written since `begin`, without any checkpoint."""
        if self._folder.contested:
            self._folder.remove(self._numbers)
            self._numbers = []
        else:
            self.clear()

    def begin(self, empty: Sequence[Part]) -> None:
        """Start a new log. `empty` has a part without lines for each table."""
        self._numbers, self._bytes, self._last = [], 0, 0
        self.taken_over = self.maybe_written = False
        if self._folder.contested:
            self._last = max(self._folder.sizes(), default=0)
            self.append(empty, None)
        else:
            self._folder.check()
            self._folder.clear()

    def resume(self, empty: Sequence[Part]) -> Checkpoint | None:
        """Resume after the last checkpoint, without later segments. Returns it, or None if there is none."""
        self.taken_over = self.maybe_written = False
        sizes = self._folder.sizes()
        for number in sorted(sizes, reverse=True):
            try:
                header, line = self._read(self._folder.get(number, most=_LONGEST_HEADER))
            except FileNotFoundError:
                raise self._damaged("a segment is missing") from None
            if header.checkpoint is not None:
                break
        else:
            return None
        # A forged header may name an enormous range: list no more numbers than segments and `without` allow.
        is_plausible = 0 <= number - header.since < len(sizes) + len(header.without)
        numbers = sorted({*range(header.since, number + 1)} - {*header.without}) if is_plausible else []
        if number not in numbers or not sizes.keys() >= {*numbers}:
            raise self._damaged("a segment is missing")
        *before, size = (sizes[one] for one in numbers)
        if (sum(before), size) != (header.before, line + sum(header.sizes)):
            raise self._damaged("a segment has another size than when it was written")
        self._numbers, self._bytes, self._last = numbers, sum(before) + size, number
        if self._folder.contested:
            self._last = max(sizes)
            self.append(empty, header.checkpoint)
        else:
            self._folder.remove(sizes.keys() - {*numbers})
        return header.checkpoint

    def append(self, parts: Sequence[Part], checkpoint: Checkpoint | None) -> None:
        """Write a segment with its checkpoint. Raises ExportError if another writer has taken over."""
        sums = [reduce(lambda crc, piece: zlib.crc32(piece, crc), part, 0) for part in parts]
        sizes = [sum(map(len, part)) for part in parts]
        fields = None if checkpoint is None else dict(checkpoint)
        number = self._last + 1
        since = min(self._numbers, default=number)
        without = sorted({*range(since, number)} - {*self._numbers})
        packed = _Header(
            _VERSION, self._format, sizes, sums, self._bytes, fields, since, without, self._writer
        )
        header = _sealed(msgspec.json.encode(packed))
        try:
            self._folder.put(number, [[header, *parts[0]], *parts[1:]])
        except FileExistsError:
            self.taken_over = True
            raise ExportError(
                f"Another export to {self._path} has taken over: this one stops and changes nothing."
            ) from None
        except OSError:
            self.maybe_written = self._folder.contested
            raise
        self._numbers.append(number)
        self._last = number
        self._bytes += len(header) + sum(sizes)

    def segments(self) -> Iterator[Sequence[bytes | memoryview]]:
        """Yield each segment's lines, one part for each table."""
        for number in self._numbers:
            try:
                data = self._folder.get(number)
                header, line = self._read(data)
                more = [self._folder.get(number, part) for part in range(1, len(header.sizes))]
            except FileNotFoundError:
                raise self._damaged("a segment is missing") from None
            parts: list[bytes | memoryview] = [memoryview(data)[line:], *more]
            if (list(map(len, parts)), list(map(zlib.crc32, parts))) != (header.sizes, header.crc32):
                raise self._damaged("a segment was changed")
            yield parts

    def files(self, part: int = 0) -> Mapping[Path, int]:
        """Return the files of a part, and their sizes. Files of the first part begin with a header line."""
        paths = [self._folder.file(number, part) for number in self._numbers]
        return {path: path.stat().st_size for path in paths}

    def _read(self, data: bytes) -> tuple[_Header, int]:
        line = data.find(b"\n") + 1
        encoded = data[: line or None]
        try:
            header = msgspec.json.decode(encoded, type=_Header)
        except (ValueError, RecursionError):
            raise self._damaged("a segment cannot be read") from None
        fields, seal, _ = encoded.rpartition(_SEAL)
        if seal and encoded != _sealed(fields + b"}"):
            raise self._damaged("a segment was changed")
        if header.version != _VERSION:
            raise self._damaged("another version of this library wrote it")
        if header.format != self._format:
            raise ExportError(
                f"The interrupted export to {self._path} has the format {shown(header.format)}, not "
                f"{self._format!r}: resume it in its own format, or start again without resuming.",
                resumable=False,
            )
        return header, line

    def _damaged(self, problem: str) -> ExportError:
        other = ", or another export has taken over" if self._folder.contested else ""
        return ExportError(
            f"The log of the export to {self._path} cannot be used: {problem}{other}. "
            "Start again without resuming.",
            resumable=False,
        )


def segment_parts(data: bytes) -> Sequence[Part]:
    """Split a segment's bytes into its parts. Without a readable header, all of it is one part."""
    line = data.find(b"\n") + 1
    try:
        sizes = msgspec.json.decode(data[:line], type=_Header).sizes
    except (ValueError, RecursionError):
        return [[data]]
    ends = [line + end for end in accumulate(sizes[:-1])]
    return [[data[begin:end]] for begin, end in pairwise([0, *ends, len(data)])]


def _name(number: int, part: int = 0) -> str:
    return f"{number:08}.{part}" if part else f"{number:08}"
