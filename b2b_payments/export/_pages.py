"""Batches of payments for a sink: the bytes of their pages, decoded only if the sink needs the values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import InvalidOperation
from functools import cached_property
from itertools import chain
from typing import Any

import msgspec

from b2b_payments._errors import without_data
from b2b_payments._protocol.json import decode_row, encode, in_one_line
from b2b_payments._tables.rows import Rows
from b2b_payments._walk.reader import JoinedPage
from b2b_payments.export._account import Entry, FastPayment, entries_of, entries_of_rows, entry_of

BATCH_ROWS = 2_000
"""Payments written and committed at once: about the most that a crash makes `resume` read again."""
_MAX_WAITING_BYTES = 32 * 2**20
"""Bytes of pages that may wait to be written: many pages with few new rows each would take much memory."""


class PageBatch(Sequence[Mapping[str, Any]]):
    """The new payments of some pages, as a sequence of the service's own JSON objects.

    The objects are decoded at first access. `lines` and `entries` are cheaper and do without them.
    """

    def __init__(self, pages: Iterable[JoinedPage] = ()) -> None:
        self._pages = list(pages)
        self._rows: dict[tuple[bool, bool], list[Rows]] = {}  # by (whole, decimal)

    def add(self, page: JoinedPage) -> None:
        """Add a page, unless it has no new payments."""
        if page.places:
            self._pages.append(page)

    def is_full(self, rows: int) -> bool:
        """Whether the batch has `rows` payments or more, or as many bytes of pages as may wait."""
        return len(self) >= rows or sum(len(page.listing.body) for page in self._pages) >= _MAX_WAITING_BYTES

    def __len__(self) -> int:
        return sum(len(page.places) for page in self._pages)

    def __getitem__(self, index: Any) -> Any:
        return self.objects[index]

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self.objects)

    @cached_property
    def objects(self) -> list[Mapping[str, Any]]:
        """The payments as JSON objects. Raises ResponseDecodeError if a page is not JSON."""
        return [payment for page in self._pages for payment in page.objects()]

    def texts(self) -> Iterator[bytes]:
        """Yield each payment as the service wrote it."""
        return (bytes(row) for page in self._pages for row in page.raw())

    def lines(self) -> list[bytes]:
        """Return the payments as the service wrote them, one per line, each line with its newline.

        Raises ResponseDecodeError if a page is not JSON.
        """
        return [_lines(page) for page in self._pages]

    def rows(self, *, whole: bool, decimal: bool) -> Iterator[Rows]:
        """Yield the payments of each page as rows. Raises like `Rows.read`.

        Rows are read once for each pair of flags: a custom sink may pass a batch to several built-in sinks,
        and what fits one of them may not fit another.
        """
        read = self._rows.setdefault((whole, decimal), [])
        for index, page in enumerate(self._pages):
            if index == len(read):
                read.append(Rows.read(page.listing.body, page.places, whole=whole, decimal=decimal))
            yield read[index]

    @property
    def store_hash(self) -> str | None:
        """The store hash of the first payment, or None if it has no readable one."""
        page = self._pages[0]
        store_hash = page.listing.heads[page.places[0]].store_hash
        return store_hash if isinstance(store_hash, str) else None

    def entries(self) -> Iterator[Entry]:
        """Return the entry of each payment for the account, from the rows if all pages were read as rows."""
        for read in self._rows.values():
            if len(read) == len(self._pages):
                return chain.from_iterable(map(entries_of_rows, read))
        return chain.from_iterable(map(_entries, self._pages))


def rows_of(batch: Sequence[Mapping[str, Any] | bytes], *, whole: bool, decimal: bool) -> Iterable[Rows]:
    """Return payments as rows. Those of a `PageBatch` are not decoded to objects. Raises like `Rows.read`."""
    if isinstance(batch, PageBatch):
        return batch.rows(whole=whole, decimal=decimal)
    return [Rows.of_objects(batch, whole=whole, decimal=decimal)]


def _entries(page: JoinedPage) -> Iterable[Entry]:
    heads = page.listing.heads
    if isinstance(heads[0], FastPayment):
        with suppress(ValueError, InvalidOperation):
            return entries_of([heads[place] for place in page.places])
    return map(entry_of, page.raw())


@without_data
def _lines(page: JoinedPage) -> bytes:
    rows: Sequence[msgspec.Raw | bytes] = page.raw()
    if b"\n" in page.listing.body or b"\r" in page.listing.body:
        rows = list(map(in_one_line, rows))
    lines = b"\n".join([*rows, b""])
    with suppress(UnicodeDecodeError):
        if lines.isascii() or lines.decode():
            return lines
    return b"".join([encode(decode_row(row)) + b"\n" for row in rows])
