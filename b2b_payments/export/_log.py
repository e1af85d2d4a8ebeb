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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from b2b_payments._errors import ExportError
from b2b_payments.export._file import sync_folder, write_whole
from b2b_payments.export._sink import Checkpoint

_VERSION = 3
_FILE = re.compile(r"[0-9]{8}(?:\.[1-9])?").fullmatch
_LONGEST_HEAD = 1 << 20

Part = Sequence[bytes]
"""Lines of one table, in some pieces."""


class Folder:
    """A hidden folder that only its owner may read, made when something is put into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._gone = path.with_name(f"{path.name}.old")

    def sizes(self) -> Mapping[str, int]:
        """Give the names of the segments' files that are there, and how many bytes each has."""
        self._refuse_link()
        try:
            with os.scandir(self.path) as found:
                return {one.name: one.stat(follow_symlinks=False).st_size for one in found if _FILE(one.name)}
        except FileNotFoundError:
            return {}

    def get(self, name: str, most: int = -1) -> bytes:
        """Give the bytes, or so many at the most."""
        with (self.path / name).open("rb") as file:
            return file.read(most)

    def put(self, name: str, data: Part) -> None:
        """Put bytes down; the first file of a segment is there once, for good."""
        if not self.path.exists():
            self._refuse_link()
            self.path.mkdir(0o700)
            sync_folder(self.path.parent)
        place = self.path / name
        if name.isdigit() and place.exists():
            raise FileExistsError(name)
        write_whole(place, *data)
        sync_folder(self.path)

    def remove(self, name: str) -> None:
        """Remove one that is there."""
        (self.path / name).unlink()

    def clear(self) -> None:
        """Remove all in one step."""
        self._refuse_link()
        shutil.rmtree(self._gone, ignore_errors=True)
        with suppress(FileNotFoundError):
            self.path.rename(self._gone)
        shutil.rmtree(self._gone, ignore_errors=True)

    def _refuse_link(self) -> None:
        if self.path.is_symlink() or (self.path.exists() and not self.path.is_dir()):
            raise ExportError(f"{self.path} is not a folder that an export made; remove it.")


class _Head(msgspec.Struct, omit_defaults=True):
    """The first line of a segment: sizes and checksums of its parts, and how many bytes came before them."""

    version: int
    format: str
    sizes: list[int]
    crc32: list[int]
    before: int
    checkpoint: dict[str, Any] | None = None


class Log:
    """The segments of one export. Its methods raise ExportError for what is damaged, else OSError."""

    def __init__(self, folder: Folder, format_: str, path: Path) -> None:
        self._folder = folder
        self._format = format_
        self._path = path
        self._count = 0
        self._bytes = 0

    @property
    def is_there(self) -> bool:
        """Whether anything is there."""
        return bool(self._count or self._folder.sizes())

    def clear(self) -> None:
        """Remove what is there."""
        self._folder.clear()
        self._count = self._bytes = 0

    def last(self) -> Checkpoint | None:
        """Give the last checkpoint, and drop what came after it; None where there is none."""
        sizes = self._folder.sizes()
        numbers = sorted(int(name) for name in sizes if name.isdigit())
        if numbers != list(range(1, len(numbers) + 1)):
            raise self._damaged("a part of it is missing")
        for number in reversed(numbers):
            head, line = self._read(self._folder.get(_name(number), _LONGEST_HEAD))
            if head.checkpoint is None:
                self._folder.remove(_name(number))
                continue
            before = sum(size for name, size in sizes.items() if int(name[:8]) < number)
            found = [sizes.get(_name(number, part), 0) for part in range(len(head.sizes))]
            found[0] -= line
            if (before, found) != (head.before, head.sizes):
                raise self._damaged("a part of it is shorter than it was")
            self._count, self._bytes = number, before + line + sum(found)
            return head.checkpoint
        return None

    def append(self, parts: Sequence[Part], checkpoint: Checkpoint | None) -> None:
        """Put lines down, and the checkpoint."""
        sums = [0] * len(parts)
        for place, part in enumerate(parts):
            for piece in part:
                sums[place] = zlib.crc32(piece, sums[place])
        sizes = [sum(map(len, part)) for part in parts]
        at = None if checkpoint is None else dict(checkpoint)
        head = msgspec.json.encode(_Head(_VERSION, self._format, sizes, sums, self._bytes, at)) + b"\n"
        number = self._count + 1
        for place, part in enumerate(parts[1:], 1):
            self._folder.put(_name(number, place), part)
        self._folder.put(_name(number), [head, *parts[0]])
        self._count = number
        self._bytes += len(head) + sum(sizes)

    def segments(self) -> Iterator[Sequence[bytes | memoryview]]:
        """Give the lines of one segment after the other, those of each table."""
        for number in range(1, self._count + 1):
            try:
                data = self._folder.get(_name(number))
                head, line = self._read(data)
                more = [self._folder.get(_name(number, part)) for part in range(1, len(head.sizes))]
            except FileNotFoundError:
                raise self._damaged("a part of it is missing") from None
            parts: list[bytes | memoryview] = [memoryview(data)[line:], *more]
            if (list(map(len, parts)), list(map(zlib.crc32, parts))) != (head.sizes, head.crc32):
                raise self._damaged("a part of it is not as it was")
            yield parts

    def files(self, part: int = 0) -> Mapping[Path, int]:
        """Give the files of a part, and their sizes. In the first part, lines stand behind another one."""
        sizes = self._folder.sizes()
        names = [_name(number, part) for number in range(1, self._count + 1)]
        return {self._folder.path / name: sizes[name] for name in names}

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
        return ExportError(
            f"What was kept of {self._path} is damaged: {what}. Start again, without resuming."
        )


def _name(number: int, part: int = 0) -> str:
    return f"{number:08}.{part}" if part else f"{number:08}"
