"""Reads one page of the list of payments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import attrs
import msgspec

from b2b_payments._errors import ResponseDecodeError, without_data
from b2b_payments._models.decimals import whole_of
from b2b_payments._models.description import wire_names
from b2b_payments._models.payment import Payment
from b2b_payments._printable import frozen
from b2b_payments._protocol.answer import Answer, kind_of, read_envelope
from b2b_payments._protocol.belonging import OF_PAGE, OF_STORE, OF_TOTAL, check_page, check_stores
from b2b_payments._protocol.json import (
    check_measure,
    decode_part,
    decode_row,
    exact_number,
    name_payment,
    repaired,
    too_large,
)
from b2b_payments._protocol.query import check_filters
from b2b_payments._protocol.request import Request

MAX_ROWS_A_PAGE = 10_000
"""The most rows of a page that are read: a service may return more than the limit, but never this many."""

# A larger offset, limit or total cannot be real, and is ignored.
_MAX_COUNT = 10**12


class Head(msgspec.Struct, rename=wire_names(Payment), gc=False):
    """The fields of a row that a walk needs; None if the row has none."""

    id: Any = None
    created_at: Any = None
    updated_at: Any = None
    channel_id: Any = None
    store_hash: Any = None


class _Rows(msgspec.Struct):
    data: list[msgspec.Raw]


_SUCCESSES = range(200, 300)

Decode = Callable[[bytes], Any]
"""Decodes a page with its rows as objects that have the fields of `Head`; None leaves the rows as bytes."""


def decoder_of(row: type[Head]) -> Decode:
    """Return a decoder of pages with rows of this type. It raises as `check_measure` and msgspec do."""
    members: Any = [("data", list[row]), ("code", Any, None), ("meta", Any, None)]  # type: ignore[valid-type]
    decode_page = msgspec.json.Decoder(msgspec.defstruct("Page", members), float_hook=exact_number).decode

    @without_data
    def decode(body: bytes) -> Any:
        check_measure(body)
        return decode_page(body)

    return decode


DecodeRows = Callable[[bytes, bool], Any]
"""As `Decode`, with a flag for whether a caller awaits the page: if not, it may stay bytes for now."""


def leave_undecoded(_body: bytes, _is_awaited: bool) -> None:
    """Leave the rows of a page as bytes: a `DecodeRows`."""


_heads = decoder_of(Head)
_rows = msgspec.json.Decoder(_Rows)


@frozen
class Listing:
    """One page: the fields of its rows that a walk needs, and the rows themselves as bytes.

    Many pages wait to be joined. As bytes they take little memory and no time of the garbage collector, so
    the rows in `body` are decoded only when they are needed, into any type. If `heads` are rows that become
    payments, each is removed when its payment is made.

    `limit` is the page size and `total_count` the length of the whole list that the service reports (None if
    missing or impossible), `date` the time of the answer by the service's clock (None without a readable
    `Date`). `named` are the paths where the answer names what was requested and could have named something
    else; `ignored` are filters that some rows do not match. `store` is the one that all rows name, if any.
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
        """Return each row as the service's own bytes."""
        return _rows.decode(self.body).data

    def objects(self) -> Sequence[dict[str, Any]]:
        """Return each row as the service's own JSON object. Raises ResponseDecodeError."""
        objects: Sequence[dict[str, Any]] = decode_part(self.body)["data"]
        return objects


def read_listing(
    request: Request, answer: Answer, base_url: str, *, offset: int, decoded: Decode | None = None
) -> Listing:
    """Read a page. Raises as `read_envelope` does, and for `data` that is not a list of up to 10,000 objects.

    `decoded` may decode the rows into the type that is needed later; they serve as heads too.
    Raises AnswerMismatchError if the answer names another offset, or its rows do not match the filters.
    """
    try:
        body, source = _body(request, answer, base_url, decoded)
    except ResponseDecodeError as error:
        if not error.too_large:
            _name_payment_in(answer.body, error)
        raise
    if len(body.data) > MAX_ROWS_A_PAGE:
        raise too_large(f"{len(body.data):,} rows")
    pagination = body.meta.get("pagination") if isinstance(body.meta, dict) else None
    reported = pagination if isinstance(pagination, dict) else {}
    offset_named = _count(reported.get("offset"))
    total = _count(reported.get("totalCount"))
    check_page(request, offset, offset_named, total, body.data)
    stores = check_stores(request, [head.store_hash for head in body.data])
    evidence = check_filters(request, source)
    named, ignored = evidence.confirmed, evidence.ignored
    if offset_named == offset > 0:  # a service may always answer 0
        named |= {OF_PAGE}
        if total is not None and total < offset:  # or cap it at its total, which may be this page's alone
            named |= {OF_TOTAL}
    if stores and request.store:
        named, ignored = (
            (named | {OF_STORE}, ignored) if stores == {request.store} else (named, ignored | {OF_STORE})
        )
    return Listing(
        heads=body.data,
        body=source,
        offset=offset,
        limit=_count(reported.get("limit")) or None,
        total_count=total,
        date=answer.date,
        named=named,
        ignored=ignored,
        store=stores.pop() if len(stores) == 1 else None,
    )


def _body(request: Request, answer: Answer, base_url: str, decoded: Decode | None) -> tuple[Any, bytes]:
    if 200 <= answer.status < 300:
        for decode in filter(None, (decoded, _heads)):
            # The error is raised below, by `read_envelope`.
            with suppress(ValueError, ArithmeticError, RecursionError):
                body = decode(answer.body)
                if body is not None and body.code in _SUCCESSES:
                    return body, answer.body
                del body  # an error's: a traceback's local variables would show the service's data
    if (failure := _problem_with(read_envelope(request, answer, base_url).data)) is not None:
        raise failure
    source = repaired(answer.body)
    return _heads(source), source


def _name_payment_in(body: bytes, error: ResponseDecodeError) -> None:
    """Add the first payment that cannot be decoded to the error of its page."""
    with suppress(ValueError, RecursionError):
        for row in _rows.decode(repaired(body)).data:
            try:
                decode_row(row, is_measured=False)
            except ResponseDecodeError:
                name_payment(error, row)
                return


def _problem_with(data: Any) -> ResponseDecodeError | None:
    """Return the error if data is not a list of objects; raised here, its traceback would show the data."""
    if not isinstance(data, list):
        return ResponseDecodeError(f"Expected a list at $.data, found {kind_of(data)}.", paths=["$.data"])
    for index, row in enumerate(data):
        if type(row) is not dict:
            where = f"$.data[{index}]"
            return ResponseDecodeError(f"Expected an object at {where}, found {kind_of(row)}.", paths=[where])
    return None


def _count(value: object) -> int | None:
    count = whole_of(value)
    return count if count is not None and 0 <= count <= _MAX_COUNT else None
