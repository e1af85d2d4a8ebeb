"""The manifest next to an export: what the export contains, where it came from, and how to verify it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Annotated, Any, TypeVar

import msgspec

from b2b_payments._errors import ExportError
from b2b_payments._printable import frozen
from b2b_payments._regular import open_regular
from b2b_payments._version import __version__
from b2b_payments.export._account import Account
from b2b_payments.export._bucket import is_url
from b2b_payments.export._file import PathLike, path_of, read_whole

P = TypeVar("P", bound=PurePath)
_VERSION = 2
MANIFEST = ".manifest.json"
"""Appended to a file's name, this is the name of its manifest."""
_FORMATS_OF_VERSION_1 = ("jsonl", "csv", "parquet")
"""Not databases: version 1 hashed them in another way."""


@frozen
class Manifest:
    """What an export contains, and how to verify it: its account, its format, and its hashes.

    `sha256` maps each file's name to the SHA-256 of its bytes. For a database, whose bytes may change when it
    is opened, it maps each table to the sum of its rows' SHA-256, which does not depend on their order.

    In an object store, `files` are the objects with the data, relative to the manifest's folder, and `number`
    rises with each export, and when old data is cleaned.
    """

    account: Account
    format: str
    sha256: Mapping[str, str]
    files: tuple[str, ...] = ()
    number: int = 0


def manifest_path(target: P) -> P:
    """Return the manifest's path. It keeps the extension: a folder may hold one export in several formats."""
    return target.with_name(f"{target.name}{MANIFEST}")


def pack_manifest(
    account: Mapping[str, Any], format_: str, sha256: Mapping[str, str], location_fields: Mapping[str, Any]
) -> bytes:
    """Encode the manifest of an export from its packed account and the fields that its location adds."""
    written_by = {"version": _VERSION, "library": f"b2b_payments {__version__}", "format": format_}
    return _encoded({**written_by, **account, **location_fields, "sha256": dict(sha256)})


def numbered_manifest(data: bytes, number: int) -> bytes:
    """Return a manifest with another number. If there is no data, it is that of an export without files."""
    data = data or pack_manifest(Account({}).pack(), "", {}, {"files": []})
    return _encoded(msgspec.json.decode(data) | {"number": number})


def _encoded(packed: Mapping[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(packed), indent=2) + b"\n"


def manifest_bytes(path: PathLike) -> bytes | None:
    """Return the bytes of an export's manifest, or None if it has none. Raises ExportError."""
    target = str(path).rstrip("/") if is_url(path) else os.path.realpath(path_of(path))
    return read_whole(f"{target}{MANIFEST}")


def read_manifest(path: PathLike) -> Manifest:
    """Read the manifest of an export. Raises ExportError."""
    data = manifest_bytes(path)
    if data is None:
        raise ExportError(f"{path} has no manifest: {path}{MANIFEST} does not exist.")
    return parse_manifest(data, f"{path}{MANIFEST}")


def parse_manifest(data: bytes, path: object) -> Manifest:
    """Parse a manifest. Raises ExportError."""
    try:
        packed: Any = msgspec.json.decode(data)
        is_readable = packed["version"] == 1 and packed["format"] in _FORMATS_OF_VERSION_1
        if is_readable or packed["version"] == _VERSION:
            fields = msgspec.convert(packed, _Packed)
            account = Account.unpack(packed)
            return Manifest(account, fields.format, fields.sha256, fields.files, fields.number)
    except (ValueError, LookupError, TypeError, RecursionError):
        raise ExportError(f"{path} is damaged: it is not the manifest of an export.") from None
    raise ExportError(f"{path} is not of version {_VERSION}: use the version of the library that wrote it.")


# Plain file names, since a manifest may be forged.
_NAME = rf"(?!\.{{0,2}}(?:/|\Z))[^/\0{re.escape(os.sep)}]+"
_Name = Annotated[str, msgspec.Meta(pattern=rf"\A{_NAME}\Z")]
_File = Annotated[str, msgspec.Meta(pattern=rf"\A{_NAME}/[0-9a-f-]+/{_NAME}\Z")]


class _Packed(msgspec.Struct):
    format: str
    sha256: dict[_Name, str]
    files: tuple[_File, ...] = ()
    number: Annotated[int, msgspec.Meta(ge=0)] = 0


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits. Raises OSError."""
    with os.fdopen(open_regular(path), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
