"""The manifest beside an export: what the file holds, where it came from, and how to check it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path, PurePath
from typing import Annotated, Any, TypeVar

import msgspec

from b2b_payments._errors import ExportError
from b2b_payments._printable import frozen
from b2b_payments._version import __version__
from b2b_payments.export._account import Account
from b2b_payments.export._bucket import is_url
from b2b_payments.export._file import PathLike, path_of, read_whole

_FOLDER = re.compile(r"[0-9a-f-]+").fullmatch
P = TypeVar("P", bound=PurePath)
_VERSION = 2
MANIFEST = ".manifest.json"
"""What the name of a file's manifest has behind the file's own."""
_FORMATS_OF_VERSION_1 = ("jsonl", "csv", "parquet")
"""Of databases, version 1 had hashes of another kind."""
_CHUNK = 1 << 20


@frozen
class Manifest:
    """A manifest that was read: the export's account, its format, and its hashes.

    `sha256` is by file name for files, whose bytes are hashed. For databases, whose bytes may change by being
    opened, it is by table: the sum of the rows' hashes, in whatever order they stand.

    In an object store, `files` are the objects that hold the data, seen from the manifest's own folder, and
    `number` says how many exports there were.
    """

    account: Account
    format: str
    sha256: Mapping[str, str]
    files: tuple[str, ...] = ()
    number: int = 0


def manifest_path(target: P) -> P:
    """Return the manifest's path, with the full name: a folder can hold one export in several formats."""
    return target.with_name(f"{target.name}{MANIFEST}")


def manifest_of(
    account: Mapping[str, Any], format_: str, sha256: Mapping[str, str], marks: Mapping[str, Any]
) -> bytes:
    """Write the manifest of an export, from its packed account; `marks` are what its location adds."""
    written_by = {"version": _VERSION, "library": f"b2b_payments {__version__}", "format": format_}
    return _written({**written_by, **account, **marks, "sha256": dict(sha256)})


def numbered_manifest(data: bytes, number: int) -> bytes:
    """Return a manifest with another number."""
    return _written(msgspec.json.decode(data) | {"number": number})


def _written(packed: Mapping[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(packed), indent=2) + b"\n"


def manifest_bytes(path: PathLike) -> bytes | None:
    """Return the manifest beside an export as it is, None where there is none. Raises ExportError."""
    place = str(path).rstrip("/") if is_url(path) else os.path.realpath(path_of(path))
    return read_whole(f"{place}{MANIFEST}")


def read_manifest(path: PathLike) -> Manifest:
    """Read the manifest beside an export. Raises ExportError."""
    data = manifest_bytes(path)
    if data is None:
        raise ExportError(f"{path} has no manifest: {path}{MANIFEST} is not there.")
    return parse_manifest(data, f"{path}{MANIFEST}")


def parse_manifest(data: bytes, place: object) -> Manifest:
    """Read a manifest's bytes. Raises ExportError."""
    try:
        packed: Any = msgspec.json.decode(data)
        known = packed["version"] == 1 and packed["format"] in _FORMATS_OF_VERSION_1
        if known or packed["version"] == _VERSION:
            found = msgspec.convert(packed, _Packed)
            for name in [*found.sha256, *chain.from_iterable(map(_parts, found.files))]:
                _check_name(name)
            account = Account.unpack(packed)
            return Manifest(account, found.format, found.sha256, found.files, found.number)
    except (ValueError, LookupError, TypeError, RecursionError):
        raise ExportError(f"{place} is damaged: it is not a manifest of an export.") from None
    raise ExportError(f"{place} is of another version than {_VERSION}: use the library that wrote it.")


class _Packed(msgspec.Struct):
    format: str
    sha256: dict[str, str]
    files: tuple[str, ...] = ()
    number: Annotated[int, msgspec.Meta(ge=0)] = 0


def _parts(file: str) -> Sequence[str]:
    name, folder, data = file.split("/")
    if _FOLDER(folder) is None:
        raise ValueError(file)
    return name, data


def _check_name(name: str) -> None:
    """Raise ValueError for what names no file in a folder: whoever may write there can write anything."""
    if name in {"", ".", ".."} or {"/", os.sep, "\0"} & {*name}:
        raise ValueError(name)


def sha256_of(path: Path) -> str:
    """Hash a file's bytes. Raises OSError."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()
