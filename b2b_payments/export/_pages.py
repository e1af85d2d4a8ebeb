"""Payments on their way into a sink: the bytes of their pages, decoded only for sinks that look into them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, overload

import msgspec

from b2b_payments._errors import ResponseDecodeError
from b2b_payments._protocol.json import decode_part, encode
from b2b_payments._walk.reader import JoinedPage
from b2b_payments.export._account import UNREADABLE, Entry, entry_of, entry_of_row, usual_entry
from b2b_payments.export._reading import RowReader


class _Total(msgspec.Struct, gc=False):
    code: str
    value: str


class _Payment(msgspec.Struct, gc=False, rename="camel"):
    processing_status: int
    total: _Total


class _Store(msgspec.Struct, rename="camel"):
    store_hash: str | None = None


class _Page(msgspec.Struct):
    data: list[_Payment]


_accounted = msgspec.json.Decoder(_Page)
_payment = msgspec.json.Decoder(_Payment)


class PageBatch(Sequence[Mapping[str, Any]]):
    """The new payments of some pages: a sequence of the service's own JSON objects.

    They are decoded when the first of them is looked at. `lines` and `entries` have cheaper ways.
    """

    def __init__(self, pages: Sequence[JoinedPage]) -> None:
        self._pages = pages
        self._rows: list[Any] = []

    def __len__(self) -> int:
        return sum(len(page.places) for page in self._pages)

    @overload
    def __getitem__(self, place: int) -> Mapping[str, Any]: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Mapping[str, Any]]: ...

    def __getitem__(self, place: int | slice) -> Mapping[str, Any] | Sequence[Mapping[str, Any]]:
        return self.objects[place]

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self.objects)

    @cached_property
    def objects(self) -> list[Mapping[str, Any]]:
        """The payments. Raises ResponseDecodeError for what is not JSON."""
        return [payment for page in self._pages for payment in page.objects()]

    def lines(self) -> bytes:
        """Give the payments as the service wrote them, a line each, each with its end.

        Raises ResponseDecodeError for what is not JSON.
        """
        rows = [row for page in self._pages for row in page.raw()]
        text = b"\n".join([*rows, b""])
        one_line_each = text.count(b"\n") == len(rows) and b"\r" not in text
        if one_line_each and _is_utf8(text):
            return text
        return b"".join([encode(decode_part(row)) + b"\n" for row in rows])

    def rows(self, reader: RowReader) -> list[Any]:
        """Give the payments as rows. Raises as the reader does."""
        self._rows = [
            row for page in self._pages for row in reader.page(page.listing.body, page.places, page.raw)
        ]
        return self._rows

    @property
    def store_hash(self) -> str | None:
        """The store that the first payment says it is of; None where it does not say."""
        try:
            return msgspec.json.decode(self._pages[0].raw()[0], type=_Store).store_hash
        except (ValueError, LookupError):
            return None

    def entries(self) -> list[Entry]:
        """Give what an account takes of each payment. Raises ResponseDecodeError for what is not JSON."""
        if self._rows:
            return list(map(entry_of_row, self._rows))
        if "objects" in vars(self):
            return [entry_of(payment) for payment in self.objects]
        return [entry for page in self._pages for entry in _entries(page)]


def _entries(page: JoinedPage) -> list[Entry]:
    try:
        rows = _accounted.decode(page.listing.body).data
    except (ValueError, RecursionError):
        return [entry_of_line(row) for row in page.raw()]
    chosen = [(rows[place].processing_status, rows[place].total) for place in page.places]
    entries = [usual_entry(status, total.code, total.value) for status, total in chosen]
    known = [entry for entry in entries if entry is not None]
    return known if len(known) == len(entries) else [entry_of_line(row) for row in page.raw()]


def entry_of_line(sent: bytes | msgspec.Raw) -> Entry:
    """Give what an account takes of a payment as it was sent; what cannot be read still counts."""
    try:
        row = _payment.decode(sent)
        if (entry := usual_entry(row.processing_status, row.total.code, row.total.value)) is not None:
            return entry
    except (ValueError, RecursionError):
        pass
    try:
        return entry_of(decode_part(sent))
    except ResponseDecodeError:
        return Entry(UNREADABLE, "", None)


def _is_utf8(text: bytes) -> bool:
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
