"""Payments on their way into a sink: the bytes of their pages, decoded only for sinks that look into them."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import InvalidOperation
from functools import cached_property
from operator import attrgetter
from typing import Any, overload

import msgspec

from b2b_payments._converter import normal_rows
from b2b_payments._protocol.json import decode_part, encode
from b2b_payments._walk.reader import JoinedPage
from b2b_payments.export._account import Entry, UsualPayment, entries_of, entry_of


class _Store(msgspec.Struct, rename="camel"):
    store_hash: str | None = None


class _Page(msgspec.Struct):
    data: list[UsualPayment]


_parts = attrgetter("processing_status", "total.currency", "total.amount")
_page = msgspec.json.Decoder(_Page)
_CHUNK = 2**16
_utf8 = codecs.getincrementaldecoder("utf-8")


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

    def rows(self) -> list[Any]:
        """Give the payments as `NormalRow`. Raises ResponseDecodeError for one that cannot be read."""
        self._rows = normal_rows([row for page in self._pages for row in page.raw()])
        return self._rows

    @property
    def store_hash(self) -> str | None:
        """The store that the first payment says it is of; None where it does not say."""
        try:
            return msgspec.json.decode(self._pages[0].raw()[0], type=_Store).store_hash
        except (ValueError, LookupError):
            return None

    def entries(self) -> list[Entry]:
        """Give what an account takes of each payment."""
        if self._rows:
            return list(map(_parts, self._rows))
        return [entry for page in self._pages for entry in _entries(page)]


def _entries(page: JoinedPage) -> list[Entry]:
    with suppress(ValueError, RecursionError, InvalidOperation):
        rows = _page.decode(page.listing.body).data
        return entries_of([rows[place] for place in page.places])
    return list(map(entry_of, page.raw()))


def _is_utf8(text: bytes) -> bool:
    decoder = _utf8()
    try:
        # A text as large as this would take longer to make than to check.
        for start in range(0, len(text), _CHUNK):
            decoder.decode(text[start : start + _CHUNK])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
