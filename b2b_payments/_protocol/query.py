"""Which payments to list: the parameters of the list, as the service names them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum, StrEnum
from typing import Any, TypeVar

import attrs

from b2b_payments._errors import ConfigurationError, shown
from b2b_payments._models.decimals import is_whole
from b2b_payments._models.enums import OrderBy, ProcessingStatus, SearchBy, SortBy
from b2b_payments._models.plain_data import checked_text
from b2b_payments._protocol.request import Query, whole

_Word = TypeVar("_Word", bound=StrEnum)


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
    if not isinstance(given, Iterable) or not all(is_whole(one) and one > 0 for one in channel_ids):
        raise ConfigurationError(
            f"channel_ids must be a list of whole numbers such as [1, 2], not {shown(value)}."
        )
    if not channel_ids:
        raise ConfigurationError("channel_ids is empty; leave it out (None) for the whole store.")
    return tuple(dict.fromkeys(channel_ids))


def _status(value: int | None) -> int | None:
    given: object = value
    if given is not None and (
        type(given) not in {int, ProcessingStatus} or given not in set(ProcessingStatus)
    ):
        known = ", ".join(f"{status.value} ({status.name})" for status in ProcessingStatus)
        raise ConfigurationError(f"processing_status {shown(value)} is none of the service's: {known}.")
    return value


def _invoice(value: int | None) -> int | None:
    return None if value is None else whole("invoice_id", value, least=1)


def _word(name: str, kind: type[_Word], value: str) -> _Word:
    try:
        return kind(value)
    except ValueError:
        raise ConfigurationError(
            f"{name} {shown(value)} is none of the service's words: {', '.join(kind)}."
        ) from None


def _sort_by(value: str) -> SortBy:
    return _word("sort_by", SortBy, value)


def _order_by(value: str) -> OrderBy:
    return _word("order_by", OrderBy, value)


def _search_by(value: str | None) -> SearchBy | None:
    return None if value is None else _word("search_by", SearchBy, value)


def _customer_name(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ConfigurationError(f"customer_name must be a string, not {shown(value)}.")
    return _filter_text("customer_name", value)


def _keywords(value: Any) -> str | None:
    if is_whole(value):
        return str(value)
    if value is not None and not isinstance(value, str):
        raise ConfigurationError(f"q must be a string of keywords, or an id, not {shown(value)}.")
    return _filter_text("q", value)


def _filter_text(name: str, value: str | None) -> str | None:
    if value is None:
        return None
    if not value.strip():
        # Sent, it would be no filter: everybody's payments would come.
        raise ConfigurationError(f"{name} is empty; leave it out (None) for the payments of all.")
    return checked_text(name, value)


@attrs.frozen(kw_only=True)
class PaymentQuery:
    """Which payments, in which order: the list's parameters but for the page. Names as in the service."""

    channel_ids: tuple[int, ...] | None = attrs.field(default=None, converter=_channel_ids)
    processing_status: int | None = attrs.field(default=None, converter=_status)
    customer_name: str | None = attrs.field(default=None, converter=_customer_name)
    invoice_id: int | None = attrs.field(default=None, converter=_invoice)
    search_by: SearchBy | None = attrs.field(default=None, converter=_search_by)
    q: str | None = attrs.field(default=None, converter=_keywords)
    sort_by: SortBy = attrs.field(default=SortBy.CREATED_AT, converter=_sort_by)
    order_by: OrderBy = attrs.field(default=OrderBy.ASC, converter=_order_by)

    @property
    def filters(self) -> tuple[str, ...]:
        """The names of the filters in force."""
        names = ("channel_ids", "processing_status", "customer_name", "invoice_id", "search_by", "q")
        return tuple(name for name in names if getattr(self, name) is not None)

    @property
    def filtered(self) -> bool:
        """Whether a payment may enter or leave the list without being created or deleted."""
        filters = (self.processing_status, self.customer_name, self.invoice_id, self.q)
        return any(value is not None for value in filters)

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
