"""One answered page of the list of payments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import attrs
import msgspec

from b2b_payments._errors import ResponseDecodeError
from b2b_payments._models.decimals import whole_of
from b2b_payments._models.description import wire_names
from b2b_payments._models.payment import Payment
from b2b_payments._printable import frozen
from b2b_payments._protocol.answer import Answer, kind_of, read_envelope
from b2b_payments._protocol.belonging import OF_PAGE, OF_STORE, OF_TOTAL, check_page, check_stores
from b2b_payments._protocol.json import check_measure, decode_part, exact_number, mended, too_large
from b2b_payments._protocol.query import check_filters
from b2b_payments._protocol.request import Request

MOST_ROWS_A_PAGE = 10_000
"""A service may give more rows than were asked for; more than this, none does."""

# Further than this no real list goes; a larger number is an answer gone wrong.
_MOST_ROWS = 10**12


class Head(msgspec.Struct, rename=wire_names(Payment), gc=False):
    """What a walk has to know of a row; None where the row does not say."""

    id: Any = None
    created_at: Any = None
    updated_at: Any = None
    channel_id: Any = None
    store_hash: Any = None


class _Rows(msgspec.Struct):
    data: list[msgspec.Raw]


_SUCCESSES = range(200, 300)

Decode = Callable[[bytes], Any]
"""Decodes a page whole, its rows as they will be wanted, with what `Head` has; None where it does not."""


def decoder_of(row: type[Head]) -> Decode:
    """Return what decodes pages with rows of a type. Raises as `check_measure`, and what msgspec raises."""
    members: Any = [("data", list[row]), ("code", Any, None), ("meta", Any, None)]  # type: ignore[valid-type]
    decode_page = msgspec.json.Decoder(msgspec.defstruct("Page", members), float_hook=exact_number).decode

    def decode(body: bytes) -> Any:
        try:
            check_measure(body)
        except ResponseDecodeError:
            del body  # a traceback's local variables would show what was sent
            raise
        return decode_page(body)

    return decode


DecodeRows = Callable[[bytes, bool], Any]
"""Decodes as `Decode`, told whether somebody waits for the page: others may wait as bytes."""


def not_decoded(_body: bytes, _is_awaited: bool) -> None:
    """Leave the rows of a page as bytes."""


_heads = decoder_of(Head)
_rows = msgspec.json.Decoder(_Rows)


@frozen
class Listing:
    """One answered page: what a walk has to know of its rows, and how to have the rows themselves.

    Pages wait to be joined, many at a time: as bytes they take little memory and none of the garbage
    collector's time. So the rows in `body` are decoded when they are wanted, as whatever they are wanted as.
    Where `heads` are rows that become payments, each is gone from it with its payment.

    `limit` is the limit that the service says it used (None where it does not say), `total_count` the number
    of rows that it says there are in all (None where it does not say, or says something impossible), `date`
    the moment of the answer by the service's clock (None where there is no readable `Date`). `named` are the
    places where the answer names what was asked for, and could have named something else; `ignored` those of
    filters that some of its rows do not fit. `store` is the one that all its rows name.
    """

    heads: list[Any] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    offset: int
    limit: int | None
    total_count: int | None
    date: datetime | None = None
    named: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()
    store: str | None = None

    def rows(self) -> Sequence[msgspec.Raw]:
        """Return each row as the bytes that the service sent."""
        return _rows.decode(self.body).data

    def objects(self) -> Sequence[dict[str, Any]]:
        """Return each row as the service's own JSON object. Raises ResponseDecodeError."""
        objects: Sequence[dict[str, Any]] = decode_part(self.body)["data"]
        return objects


def read_listing(
    request: Request, answer: Answer, base_url: str, *, offset: int, decoded: Decode | None = None
) -> Listing:
    """Read a page. Raises as `read_envelope` does, and where `data` is no list of objects, or endless.

    `decoded` may give the page with its rows decoded as they will be wanted: they are heads as well.
    Raises AnswerMismatchError where the answer names another offset, or its rows are not those filtered by.
    """
    body, source = _body(request, answer, base_url, decoded)
    if len(body.data) > MOST_ROWS_A_PAGE:
        raise too_large(f"{len(body.data):,} rows")
    pagination = body.meta.get("pagination") if isinstance(body.meta, dict) else None
    said = pagination if isinstance(pagination, dict) else {}
    named = _count(said.get("offset"))
    total = _count(said.get("totalCount"))
    check_page(request, offset, named, total, body.data)
    stores = check_stores(request, [head.store_hash for head in body.data])
    filtered = check_filters(request, source)
    at, ignored = filtered.kept, filtered.ignored
    if named == offset > 0:  # a service may always say 0
        at |= {OF_PAGE}
        if total is not None and total < offset:  # or no more than its total, which may be of this page alone
            at |= {OF_TOTAL}
    if stores and request.store:
        at, ignored = (at | {OF_STORE}, ignored) if stores == {request.store} else (at, ignored | {OF_STORE})
    return Listing(
        heads=body.data,
        body=source,
        offset=offset,
        limit=_count(said.get("limit")) or None,
        total_count=total,
        date=answer.date,
        named=at,
        ignored=ignored,
        store=stores.pop() if len(stores) == 1 else None,
    )


def _body(request: Request, answer: Answer, base_url: str, decoded: Decode | None) -> tuple[Any, bytes]:
    if 200 <= answer.status < 300:
        for decode in filter(None, (decoded, _heads)):
            # What is wrong with it is said below.
            with suppress(ValueError, ArithmeticError, RecursionError):
                body = decode(answer.body)
                if body is not None and body.code in _SUCCESSES:
                    return body, answer.body
                del body  # it is an error's, and a traceback's local variables would show what was sent
    if (failure := _problem_with(read_envelope(request, answer, base_url).data)) is not None:
        raise failure
    source = mended(answer.body)
    return _heads(source), source


def _problem_with(data: Any) -> ResponseDecodeError | None:
    """Return what to raise where data is no list of objects: not from here, where data would be in sight."""
    if not isinstance(data, list):
        return ResponseDecodeError(f"Expected a list at $.data, found {kind_of(data)}.", paths=["$.data"])
    for index, row in enumerate(data):
        if type(row) is not dict:
            where = f"$.data[{index}]"
            return ResponseDecodeError(f"Expected an object at {where}, found {kind_of(row)}.", paths=[where])
    return None


def _count(value: object) -> int | None:
    count = whole_of(value)
    return count if count is not None and 0 <= count <= _MOST_ROWS else None
