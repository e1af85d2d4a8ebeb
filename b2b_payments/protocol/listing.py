"""The list of payments: its query, and one page of its answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum, StrEnum
from typing import Any, TypeVar

import attrs

from b2b_payments.errors import ConfigurationError, ResponseDecodeError
from b2b_payments.models.enums import OrderBy, ProcessingStatus, SearchBy, SortBy
from b2b_payments.protocol.answer import Envelope, kind_of
from b2b_payments.protocol.request import Query

_Word = TypeVar("_Word", bound=StrEnum)

# Further than this no real list goes; a larger number is an answer gone wrong.
_MOST_ROWS = 10**12


class ChannelEncoding(Enum):
    """The ways to write `channelIds` in a query. Which one the service reads is not documented [open]."""

    REPEAT = "channelIds=1&channelIds=2"
    BRACKETS_COMMA = "channelIds[]=1,2"
    BRACKETS = "channelIds[]=1&channelIds[]=2"
    COMMA = "channelIds=1,2"

    def pairs(self, channel_ids: Sequence[int]) -> list[tuple[str, str]]:
        """Write the ids in this way."""
        texts = [str(channel_id) for channel_id in channel_ids]
        key = (
            "channelIds[]"
            if self in {ChannelEncoding.BRACKETS, ChannelEncoding.BRACKETS_COMMA}
            else "channelIds"
        )
        if self in {ChannelEncoding.COMMA, ChannelEncoding.BRACKETS_COMMA}:
            texts = [",".join(texts)]
        return [(key, text) for text in texts]


def _channel_ids(value: Sequence[int] | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    given: object = value
    channel_ids = tuple(given) if isinstance(given, Iterable) else (given,)
    if not isinstance(given, Iterable) or not all(type(one) is int and one > 0 for one in channel_ids):
        raise ConfigurationError(f"channel_ids must be a list of whole numbers such as [1, 2], not {value!r}.")
    if not channel_ids:
        raise ConfigurationError("channel_ids is empty; leave it out (None) for the whole store.")
    return tuple(dict.fromkeys(channel_ids))


def _status(value: int | None) -> int | None:
    given: object = value
    if given is not None and (
        type(given) not in {int, ProcessingStatus} or given not in set(ProcessingStatus)
    ):
        known = ", ".join(f"{status.value} ({status.name})" for status in ProcessingStatus)
        raise ConfigurationError(f"processing_status {value!r} is none of the service's: {known}.")
    return value


def _invoice(value: int | None) -> int | None:
    if value is not None and (type(value) is not int or value < 1):
        raise ConfigurationError(f"invoice_id must be a whole number of at least 1, not {value!r}.")
    return value


def _word(name: str, kind: type[_Word], value: str) -> _Word:
    try:
        return kind(value)
    except ValueError:
        raise ConfigurationError(
            f"{name} {value!r} is none of the service's words: {', '.join(kind)}."
        ) from None


def _sort_by(value: str) -> SortBy:
    return _word("sort_by", SortBy, value)


def _order_by(value: str) -> OrderBy:
    return _word("order_by", OrderBy, value)


def _search_by(value: str | None) -> SearchBy | None:
    return None if value is None else _word("search_by", SearchBy, value)


@attrs.frozen(kw_only=True)
class PaymentQuery:
    """Which payments, in which order: the list's parameters but for the page. Names as in the service."""

    channel_ids: tuple[int, ...] | None = attrs.field(default=None, converter=_channel_ids)
    processing_status: int | None = attrs.field(default=None, converter=_status)
    customer_name: str | None = None
    invoice_id: int | None = attrs.field(default=None, converter=_invoice)
    search_by: SearchBy | None = attrs.field(default=None, converter=_search_by)
    q: str | None = None
    sort_by: SortBy = attrs.field(default=SortBy.CREATED_AT, converter=_sort_by)
    order_by: OrderBy = attrs.field(default=OrderBy.ASC, converter=_order_by)

    def pairs(self, *, offset: int, limit: int, encoding: ChannelEncoding) -> Query:
        """Write the query of one page. What the caller left out is left out; a zero is a value."""
        given = [
            ("offset", offset),
            ("limit", limit),
            ("orderBy", self.order_by),
            ("sortBy", self.sort_by),
            ("searchBy", self.search_by),
            ("q", self.q),
            ("customerName", self.customer_name),
            ("invoiceId", self.invoice_id),
            ("processingStatus", self.processing_status),
        ]
        pairs = [(key, _text(value)) for key, value in given if value is not None]
        if self.channel_ids is not None:
            pairs += encoding.pairs(self.channel_ids)
        return tuple(pairs)


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, int) else str(value)


@attrs.frozen
class Listing:
    """One answered page of the list, its rows as the service sent them.

    `limit` is the limit that the service says it used (None where it does not say), `total_count` the number
    of rows that it says there are in all (None where it does not say, or says something impossible).
    """

    rows: list[dict[str, Any]] = attrs.field(repr=False)
    offset: int
    limit: int | None
    total_count: int | None


def read_listing(envelope: Envelope, *, offset: int) -> Listing:
    """Read a page. Raises ResponseDecodeError where `data` is no list of objects."""
    rows = envelope.data
    if not isinstance(rows, list):
        raise ResponseDecodeError(f"Expected a list at $.data, found {kind_of(rows)}.", paths=["$.data"])
    for index, row in enumerate(rows):
        if type(row) is not dict:
            where = f"$.data[{index}]"
            raise ResponseDecodeError(f"Expected an object at {where}, found {kind_of(row)}.", paths=[where])
    pagination = envelope.meta.get("pagination")
    said = pagination if isinstance(pagination, dict) else {}
    echoed = _count(said.get("offset"))
    return Listing(
        rows=rows,
        # A service that answers for another place than the one asked for is taken at its word.
        offset=offset if echoed is None else echoed,
        limit=_count(said.get("limit")) or None,
        total_count=_count(said.get("totalCount")),
    )


def _count(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 14:
        value = int(value)
    return value if type(value) is int and 0 <= value <= _MOST_ROWS else None
