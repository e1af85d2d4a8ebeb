"""Verify an export against its manifest."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from heapq import merge
from itertools import pairwise
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from b2b_payments._errors import ExportError, VerificationError, shown
from b2b_payments._formats import FORMATS
from b2b_payments._tables.columns import TABLES
from b2b_payments.export._bucket import bucket_and_name, is_url
from b2b_payments.export._database import opened
from b2b_payments.export._file import PathLike, path_of, reading, require_file
from b2b_payments.export._manifest import (
    MANIFEST,
    Manifest,
    manifest_bytes,
    manifest_path,
    read_manifest,
    sha256_of,
)
from b2b_payments.export._reading import DATABASES, Read, read_payments, sums_of
from b2b_payments.export._sqlite import journal_of

_RUN = 1 << 16


def verify(path: PathLike) -> Manifest:
    """Verify an export against its manifest: hashes, number of payments, totals. Returns the manifest.

    `path` may be a URL. Raises VerificationError for the first difference or a repeated payment, ExportError
    if something cannot be read, and ConfigurationError if the format's extra is missing.
    """
    with local_copy(path) as target:
        require_file(target, path, "an export")
        manifest = read_manifest(target)
        if manifest.format not in FORMATS:
            raise ExportError(f"The manifest of {path} names an unknown format: update this library.")
        if manifest.format in DATABASES and journal_of(target).exists():
            raise ExportError(
                f"{target} is being written, or a process ended while writing it: wait, or resume what was "
                "interrupted, then verify again."
            )
        try:
            (_compare_tables if manifest.format in DATABASES else _compare_files)(target, manifest)
            _compare_content(read_payments(target, manifest.format), manifest)
        except ExportError as error:
            raise VerificationError(f"{path} is not what was exported: {error}") from None
        return manifest


@contextmanager
def local_copy(path: PathLike) -> Iterator[Path]:
    """Yield the local path of an export. From an object store, it is downloaded to a temporary folder."""
    if not is_url(path):
        yield Path(path_of(path)).resolve()
        return
    bucket, name = bucket_and_name(str(path))
    manifest = read_manifest(path)
    with TemporaryDirectory(prefix="b2b-payments-") as folder, reading(path):
        target = Path(folder) / name.rpartition("/")[2]
        manifest_path(target).write_bytes(manifest_bytes(path) or b"")
        for file in manifest.files:
            try:
                bucket.download(f"{name.removesuffix(target.name)}{file}", target.with_name(Path(file).name))
            except FileNotFoundError:
                raise VerificationError(f"{path} is not what was exported: {file} does not exist.") from None
        yield target


def is_folder(path: PathLike) -> bool:
    """Whether a path or URL names a folder rather than an export. Raises ExportError."""
    if not is_url(path):
        return os.path.isdir(path_of(path))
    _, name = bucket_and_name(str(path), folder=True)
    return not name or manifest_bytes(path) is None


def exports_in(folder: PathLike) -> list[str]:
    """Return the paths or URLs of all exports in a folder and below it, except hidden ones."""
    if is_url(folder):
        bucket, prefix = bucket_and_name(str(folder), folder=True)
        with reading(folder):
            found = [PurePosixPath(one) for one in bucket.sizes(prefix) if one.endswith(MANIFEST)]
    else:
        folder = path_of(folder)
        found = [PurePosixPath(one.relative_to(folder)) for one in Path(folder).rglob(f"*{MANIFEST}")]
    return [
        f"{str(folder).rstrip('/')}/{one}".removesuffix(MANIFEST)
        for one in sorted(found)
        if not any(part.startswith(".") for part in one.parts)
    ]


class DuplicateIds:
    """Finds a payment id that occurs twice, in eight bytes per id: 70 and ``"70"`` are the same id."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._runs: list[array[int]] = []
        self._others: set[str] = set()
        self._duplicate: str | None = None

    def add(self, payment_id: object) -> None:
        text = str(payment_id)
        with suppress(ValueError):
            number = int(text)
            if str(number) == text and -(2**63) <= number < 2**63:
                self._numbers.append(number)
                if len(self._numbers) == _RUN:
                    self._sort()
                return
        # Not in the form of a 64-bit number. Few or no payments have such an id.
        if text in self._others:
            self._duplicate = text
        self._others.add(text)

    def duplicate(self) -> str | None:
        """Return an id that occurs twice, or None."""
        self._sort()
        if self._duplicate is None:
            # Merges sorted runs, so that there is never a Python object for each id.
            for one, next_one in pairwise(merge(*self._runs)):
                if one == next_one:
                    return str(one)
        return self._duplicate

    def _sort(self) -> None:
        if self._numbers:
            self._runs.append(array("q", sorted(self._numbers)))
            self._numbers = []


def _compare_files(target: Path, manifest: Manifest) -> None:
    for name, expected in manifest.sha256.items():
        try:
            found = sha256_of(target.with_name(name))
        except OSError as error:
            raise VerificationError(f"{name} could not be read: {error.strerror}.") from None
        _compare_digest(name, found, expected)
    if target.name not in manifest.sha256:
        raise VerificationError("its manifest describes other files.")


def _compare_tables(target: Path, manifest: Manifest) -> None:
    with opened(DATABASES[manifest.format], target, read_only=True, doing="read") as database:
        for table in TABLES:
            found = database.digest(table)
            _compare_digest(f"the table {table.name}", found, manifest.sha256.get(table.name, "missing"))


def _compare_content(payments: Iterator[Read], manifest: Manifest) -> None:
    ids = DuplicateIds()

    def watched() -> Iterator[Read]:
        for payment in payments:
            ids.add(payment.id)
            yield payment

    sums = sums_of(watched())
    if (duplicate := ids.duplicate()) is not None:
        raise VerificationError(f"payment {duplicate} occurs twice.")
    expected = manifest.account.sums
    _compare("the number of payments", sums.whole.rows, expected.whole.rows)
    _compare("the totals", sums.whole.totals, expected.whole.totals)
    _compare("the totals of each processing status", sums.statuses, expected.statuses)


def _compare(subject: str, found: object, expected: object) -> None:
    if found != expected:
        if isinstance(found, dict) and isinstance(expected, dict):
            found, expected = _without(expected, found), _without(found, expected)
        raise VerificationError(f"{subject}: now {shown(found)}, but {shown(expected)} when it was exported.")


def _without(known: dict[str, object], items: dict[str, object]) -> dict[str, object]:
    return {name: item for name, item in items.items() if name not in known or known[name] != item}


def _compare_digest(subject: str, found: str, expected: str) -> None:
    if found != expected:
        raise VerificationError(
            f"{subject} was changed after the export (its SHA-256 is {found[:12]}…, was {expected[:12]}…)."
        )
