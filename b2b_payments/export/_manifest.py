"""The manifest beside an export: what the file holds, where it came from, and how to check it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from b2b_payments._errors import ExportError
from b2b_payments._printable import frozen
from b2b_payments._version import __version__
from b2b_payments.export._account import Account
from b2b_payments.export._sink import Checkpoint

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
    """

    account: Account
    format: str
    sha256: Mapping[str, str]


def manifest_path(target: Path) -> Path:
    """Give the manifest's place: the whole name, so that one folder can hold an export in several formats."""
    return target.with_name(f"{target.name}{MANIFEST}")


def manifest_of(checkpoint: Checkpoint | None, format_: str, sha256: Mapping[str, str]) -> bytes | None:
    """Write the manifest of what a last checkpoint gives account of; None where it gives none."""
    account = (checkpoint or {}).get("account")
    if account is None:
        return None
    packed = {
        "version": _VERSION,
        "library": f"b2b_payments {__version__}",
        "format": format_,
        **account,
        "sha256": dict(sha256),
    }
    return msgspec.json.format(msgspec.json.encode(packed), indent=2) + b"\n"


def read_manifest(path: Path) -> Manifest:
    """Read the manifest beside an export. Raises ExportError."""
    place = manifest_path(path)
    try:
        packed: Any = msgspec.json.decode(place.read_bytes())
        known = packed["version"] == 1 and packed["format"] in _FORMATS_OF_VERSION_1
        if known or packed["version"] == _VERSION:
            return Manifest(Account.unpack(packed), packed["format"], dict(packed["sha256"]))
    except FileNotFoundError:
        raise ExportError(f"{path} has no manifest: {place} is not there.") from None
    except OSError as error:
        raise ExportError(f"{place} could not be read: {error.strerror}.") from None
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
        raise ExportError(f"{place} is damaged: it is not a manifest of an export.") from None
    raise ExportError(f"{place} is of another version than {_VERSION}: use the library that wrote it.")


def sha256_of(path: Path) -> str:
    """Hash a file's bytes. Raises OSError."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()
