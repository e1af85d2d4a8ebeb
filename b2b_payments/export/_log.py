"""The log of an export: what it writes while it walks, and all that a kill can interrupt.

It is a row of numbered segments. Each is put down whole, once: its first line says what it holds and where
the export stands, and then come the payments, a line each. The bytes of a segment that was put down never
change, so that what is made of them, a file or a database, can be made again.
"""

from __future__ import annotations

import os
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from b2b_payments._errors import ExportError
from b2b_payments.export._file import sync_folder, write_whole
from b2b_payments.export._sink import Checkpoint

_VERSION = 2
_SEGMENT = re.compile(r"[0-9]{8}").fullmatch
_LONGEST_HEAD = 1 << 20


class Folder:
    """A hidden folder that only its owner may read, made when something is put into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._gone = path.with_name(f"{path.name}.old")

    def sizes(self) -> Mapping[str, int]:
        """Give the names of the segments that are there, and how many bytes each has."""
        self._refuse_link()
        try:
            with os.scandir(self.path) as found:
                return {
                    one.name: one.stat(follow_symlinks=False).st_size for one in found if _SEGMENT(one.name)
                }
        except FileNotFoundError:
            return {}

    def get(self, name: str, most: int = -1) -> bytes:
        """Give the bytes, or so many at the most."""
        with (self.path / name).open("rb") as file:
            return file.read(most)

    def put(self, name: str, data: bytes) -> None:
        """Put bytes down for good."""
        if not self.path.exists():
            self._refuse_link()
            self.path.mkdir(0o700)
            sync_folder(self.path.parent)
        place = self.path / name
        if place.exists():
            raise FileExistsError(name)
        write_whole(place, data)
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
    """The first line of a segment: what follows, and what came before; `before` counts all earlier bytes."""

    version: int
    format: str
    size: int
    crc32: int
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
        count = len(sizes)
        if sizes.keys() != {_name(number) for number in range(1, count + 1)}:
            raise self._damaged("a part of it is missing")
        for number in range(count, 0, -1):
            head, line = self._head(number)
            if head.checkpoint is None:
                self._folder.remove(_name(number))
                continue
            before = sum(sizes[_name(one)] for one in range(1, number))
            self._count, self._bytes = number, before + sizes[_name(number)]
            if (before, sizes[_name(number)]) != (head.before, line + head.size):
                raise self._damaged("a part of it is shorter than it was")
            return head.checkpoint
        return None

    def append(self, lines: bytes, checkpoint: Checkpoint | None) -> None:
        """Put lines down, and the checkpoint."""
        head = _Head(
            _VERSION,
            self._format,
            len(lines),
            zlib.crc32(lines),
            self._bytes,
            None if checkpoint is None else dict(checkpoint),
        )
        data = msgspec.json.encode(head) + b"\n" + lines
        self._folder.put(_name(self._count + 1), data)
        self._count += 1
        self._bytes += len(data)

    def segments(self) -> Iterator[bytes]:
        """Give the lines of one segment after the other."""
        for number in range(1, self._count + 1):
            try:
                data = self._folder.get(_name(number))
            except FileNotFoundError:
                raise self._damaged("a part of it is missing") from None
            head, line = self._read(data)
            lines = memoryview(data)[line:]
            if (len(lines), zlib.crc32(lines)) != (head.size, head.crc32):
                raise self._damaged("a part of it is not as it was")
            yield bytes(lines)

    def files(self) -> Mapping[Path, int]:
        """Check all segments; give their files and sizes. In each, the lines stand behind another."""
        for _ in self.segments():
            pass
        return {self._folder.path / name: size for name, size in sorted(self._folder.sizes().items())}

    def _head(self, number: int) -> tuple[_Head, int]:
        return self._read(self._folder.get(_name(number), _LONGEST_HEAD))

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


def _name(number: int) -> str:
    return f"{number:08}"
