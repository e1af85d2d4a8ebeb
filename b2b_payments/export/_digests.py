"""Digests of a table's rows, whose order does not matter."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from b2b_payments._tables.columns import Row


def digest_of_rows(rows: Iterable[Row]) -> int:
    """Return the same as `digest_of` for the lines of these rows."""
    return digest_of(map(msgspec.json.encode, rows))


def digest_of(lines: Iterable[bytes]) -> int:
    """Return the sum of the SHA-256 of lines, each a row as JSON. Their order does not matter."""
    return sum(int.from_bytes(hashlib.sha256(line).digest()) for line in lines)


def digest_text(digest: int) -> str:
    """Return a digest as 64 hexadecimal digits, for any number of rows."""
    return f"{digest % 2**256:064x}"
