"""The log of an export: what it writes while it walks, and all that a kill can interrupt.

It is a row of numbered segments. Each is put down whole, once: its first line says what it holds and where
the export stands, and then come lines of JSON or CSV. A segment of two tables has the second one's lines in a
file beside it, which is there first. The bytes of a segment that was put down never change, so that what is
made of them, a file or a database, can be made again.
"""

from __future__ import annotations

import os
import re
import shutil
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any, ClassVar

import msgspec

from b2b_payments._errors import ExportError
from b2b_payments.export._file import sync_folder, write_whole
from b2b_payments.export._sink import Checkpoint

_VERSION = 4
_FILE = re.compile(r"[0-9]{8}(?:\.[1-9])?").fullmatch
_LONGEST_HEAD = 1 << 20

Part = Sequence[bytes]
"""Lines of one table, in some pieces."""


class Folder:
    """A hidden folder that only its owner may read, made when something is put into it."""

    contested: ClassVar[bool] = False
    """Whether nothing keeps two writers apart but that a segment is put down once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._gone = path.with_name(f"{path.name}.old")

    def sizes(self) -> Mapping[int, int]:
        """Return the numbers of the segments that are there, and how many bytes each has in all its files."""
        self._refuse_link()
        found: Counter[int] = Counter()
        try:
            with os.scandir(self.path) as files:
                names = {one.name: one.stat(follow_symlinks=False).st_size for one in files}
        except FileNotFoundError:
            return {}
        for name in filter(_FILE, names):
            if name[:8] in names:
                found[int(name[:8])] += names[name]
        return found

    def get(self, number: int, part: int = 0, most: int = -1) -> bytes:
        """Return the bytes of a part, or so many at the most."""
        with self.file(number, part).open("rb") as file:
            return file.read(most)

    def file(self, number: int, part: int = 0) -> Path:
        """Return the file of a part. Raises FileNotFoundError, or leaves that to whoever opens it."""
        return self.path / _name(number, part)

    def put(self, number: int, parts: Sequence[Part]) -> None:
        """Put a segment down, once and for good. Raises FileExistsError where it is there."""
        if not self.path.exists():
            self._refuse_link()
            self.path.mkdir(0o700)
            sync_folder(self.path.parent)
        if (self.path / _name(number)).exists():
            raise FileExistsError(number)
        for part, pieces in reversed([*enumerate(parts)]):
            write_whole(self.path / _name(number, part), *pieces)
            sync_folder(self.path)

    def keep(self, numbers: Collection[int], last: int) -> None:
        """Remove all segments but these, up to the last of the writer's: where none is kept, in one step."""
        del last
        if not numbers:
            self._clear()
        for number in self.sizes().keys() - set(numbers):
            (self.path / _name(number)).unlink()

    def _clear(self) -> None:
        self._refuse_link()
        shutil.rmtree(self._gone, ignore_errors=True)
        with suppress(FileNotFoundError):
            self.path.rename(self._gone)
        shutil.rmtree(self._gone, ignore_errors=True)

    def _refuse_link(self) -> None:
        if self.path.is_symlink() or (self.path.exists() and not self.path.is_dir()):
            raise ExportError(f"{self.path} is not a folder that an export made; remove it.")


_Size = Annotated[int, msgspec.Meta(ge=0)]


class _Head(msgspec.Struct, omit_defaults=True):
    """The first line of a segment: sizes and checksums of its parts, and how many bytes came before them."""

    version: int
    format: str
    sizes: Annotated[list[_Size], msgspec.Meta(min_length=1, max_length=10)]
    crc32: list[int]
    before: int
    checkpoint: dict[str, Any] | None = None
    since: int = 1
    without: list[int] = []
    writer: str = ""


class Log:
    """The segments of one export. Its methods raise ExportError for what is damaged, else OSError.

    Where the folder is contested, whoever begins or resumes puts down an empty segment first: the number that
    any earlier writer would put next is taken then, so that this one can put nothing more. What an earlier
    writer left without a checkpoint keeps its number, and is named in the segments that follow (`without`).
    """

    def __init__(self, folder: Folder, format_: str, path: object) -> None:
        self._folder = folder
        self._format = format_
        self._path = path
        self._writer = token_hex(8) if folder.contested else ""
        self._numbers: list[int] = []
        self._top = 0
        self._bytes = 0
        self.lost: bool = False
        """Whether another writer has taken over."""
        self.in_doubt: bool = False
        """Whether the last segment may be there though it failed: in an object store, if not in its copy."""

    @property
    def is_there(self) -> bool:
        """Whether anything is there."""
        return bool(self._numbers or self._folder.sizes())

    def clear(self) -> None:
        """Remove what is there."""
        self._numbers, self._bytes = [], 0
        self._folder.keep([], self._top)
        self._top = self._top if self._folder.contested else 0

    def begin(self, nothing: Sequence[Part]) -> None:
        """Begin anew, with no lines of each table; what is there is removed."""
        self._numbers, self._bytes = [], 0
        self._top = max(self._folder.sizes(), default=0)
        self._take_over(nothing, None)

    def resume(self, nothing: Sequence[Part]) -> Checkpoint | None:
        """Go on behind the last checkpoint, and give it, None where there is none.

        What came after it is removed.
        """
        sizes = self._folder.sizes()
        for number in sorted(sizes, reverse=True):
            try:
                head, line = self._read(self._folder.get(number, most=_LONGEST_HEAD))
            except FileNotFoundError:
                raise self._damaged("a part of it is missing") from None
            if head.checkpoint is not None:
                break
            if head.since == number:
                return None
        else:
            return None
        # Whoever may write into the folder can say anything of it: no more numbers than there can be.
        are_there = 0 <= number - head.since < len(sizes) + len(head.without)
        numbers = sorted({*range(head.since, number + 1)} - {*head.without}) if are_there else []
        if number not in numbers or not sizes.keys() >= {*numbers}:
            raise self._damaged("a part of it is missing")
        *before, size = (sizes[one] for one in numbers)
        if (sum(before), size) != (head.before, line + sum(head.sizes)):
            raise self._damaged("a part of it is shorter than it was")
        self._numbers, self._bytes, self._top = numbers, sum(before) + size, max(sizes)
        self._take_over(nothing, head.checkpoint)
        return head.checkpoint

    def _take_over(self, nothing: Sequence[Part], checkpoint: Checkpoint | None) -> None:
        if self._folder.contested:
            self.append(nothing, checkpoint)
        self._folder.keep(self._numbers, self._top)
        self._top = max(self._numbers, default=0)

    def append(self, parts: Sequence[Part], checkpoint: Checkpoint | None) -> None:
        """Put lines down, and the checkpoint. Raises ExportError where another writer has taken over."""
        sums = [0] * len(parts)
        for place, part in enumerate(parts):
            for piece in part:
                sums[place] = zlib.crc32(piece, sums[place])
        sizes = [sum(map(len, part)) for part in parts]
        at = None if checkpoint is None else dict(checkpoint)
        number = self._top + 1
        since = min(self._numbers, default=number)
        without = sorted({*range(since, number)} - {*self._numbers})
        packed = _Head(_VERSION, self._format, sizes, sums, self._bytes, at, since, without, self._writer)
        head = msgspec.json.encode(packed) + b"\n"
        try:
            self._folder.put(number, [[head, *parts[0]], *parts[1:]])
        except FileExistsError:
            self.lost = True
            raise ExportError(
                f"Another export to {self._path} has taken over: this one stops, and changes nothing."
            ) from None
        except OSError:
            self.in_doubt = self._folder.contested
            raise
        self._numbers.append(number)
        self._top = number
        self._bytes += len(head) + sum(sizes)

    def segments(self) -> Iterator[Sequence[bytes | memoryview]]:
        """Yield the lines of one segment after the other, those of each table."""
        for number in self._numbers:
            try:
                data = self._folder.get(number)
                head, line = self._read(data)
                more = [self._folder.get(number, part) for part in range(1, len(head.sizes))]
            except FileNotFoundError:
                raise self._damaged("a part of it is missing") from None
            parts: list[bytes | memoryview] = [memoryview(data)[line:], *more]
            if (list(map(len, parts)), list(map(zlib.crc32, parts))) != (head.sizes, head.crc32):
                raise self._damaged("a part of it is not as it was")
            yield parts

    def files(self, part: int = 0) -> Mapping[Path, int]:
        """Return the files of a part, and their sizes. In the first part, lines stand behind another one."""
        paths = [self._folder.file(number, part) for number in self._numbers]
        return {path: path.stat().st_size for path in paths}

    def _read(self, data: bytes) -> tuple[_Head, int]:
        line = data.find(b"\n") + 1
        try:
            head = msgspec.json.decode(data[: line or None], type=_Head)
        except (ValueError, RecursionError):
            raise self._damaged("it cannot be read") from None
        if head.version != _VERSION:
            raise self._damaged("it is of another version of this library")
        if head.format != self._format:
            raise ExportError(
                f"The export to {self._path} that was interrupted was one to {head.format}, not "
                f"{self._format}: resume it as that, or start again without resuming."
            )
        return head, line

    def _damaged(self, what: str) -> ExportError:
        other = ", or another export has taken over" if self._folder.contested else ""
        return ExportError(
            f"What was kept of {self._path} is damaged: {what}{other}. Start again, without resuming."
        )


def segment_parts(data: bytes) -> Sequence[Part]:
    """Return the parts of a segment whose bytes stand in one piece; one that cannot be read is one part."""
    line = data.find(b"\n") + 1
    try:
        sizes = msgspec.json.decode(data[:line], type=_Head).sizes
    except (ValueError, RecursionError):
        return [[data]]
    begins = [0, *accumulate(sizes, initial=line)][:-1]
    del begins[1]
    ends = [*begins[1:], len(data)]
    return [[data[begin:end]] for begin, end in zip(begins, ends, strict=True)]


def _name(number: int, part: int = 0) -> str:
    return f"{number:08}.{part}" if part else f"{number:08}"
