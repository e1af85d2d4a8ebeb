"""The query of the list of payments, and whether rows match its filters."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum, StrEnum
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar

import attrs
import msgspec

from b2b_payments._arguments import whole
from b2b_payments._errors import ConfigurationError, shown
from b2b_payments._models.decimals import is_whole, whole_of
from b2b_payments._models.description import wire_names
from b2b_payments._models.enums import OrderBy, ProcessingStatus, SearchBy, SortBy
from b2b_payments._models.payment import LineItem, Payment
from b2b_payments._models.plain_data import checked_text
from b2b_payments._printable import frozen
from b2b_payments._protocol.belonging import OF_ROWS, refuse
from b2b_payments._protocol.json import exact_number
from b2b_payments._protocol.request import Query, Request

_Member = TypeVar("_Member", bound=StrEnum)


class ChannelEncoding(Enum):
    """The ways to encode `channelIds` in a query. Which one the service reads is not documented [open]."""

    REPEAT = "channelIds=1&channelIds=2"
    BRACKETS_COMMA = "channelIds[]=1,2"
    BRACKETS = "channelIds[]=1&channelIds[]=2"
    COMMA = "channelIds=1,2"

    def pairs(self, channel_ids: Sequence[int]) -> list[tuple[str, str]]:
        """Return the ids as query pairs in this encoding."""
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
    unchecked: object = value
    channel_ids = tuple(unchecked) if isinstance(unchecked, Iterable) else (unchecked,)
    if not isinstance(unchecked, Iterable) or not all(is_whole(one) and one > 0 for one in channel_ids):
        raise ConfigurationError(
            f"channel_ids must be a list of whole numbers such as [1, 2], not {shown(value)}."
        )
    if not channel_ids:
        raise ConfigurationError("channel_ids is empty; leave it out (None) for the whole store.")
    return tuple(dict.fromkeys(channel_ids))


def _status(value: int | None) -> int | None:
    unchecked: object = value
    if unchecked is not None and (
        type(unchecked) not in {int, ProcessingStatus} or unchecked not in set(ProcessingStatus)
    ):
        known = ", ".join(f"{status.value} ({status.name})" for status in ProcessingStatus)
        raise ConfigurationError(f"processing_status {shown(value)} is unknown; use one of {known}.")
    return value


def _invoice(value: int | None) -> int | None:
    return None if value is None else whole("invoice_id", value, least=1)


def _member(name: str, kind: type[_Member], value: str) -> _Member:
    try:
        return kind(value)
    except ValueError:
        raise ConfigurationError(f"{name} {shown(value)} is unknown; use one of {', '.join(kind)}.") from None


def _sort_by(value: str) -> SortBy:
    return _member("sort_by", SortBy, value)


def _order_by(value: str) -> OrderBy:
    return _member("order_by", OrderBy, value)


def _search_by(value: str | None) -> SearchBy | None:
    return None if value is None else _member("search_by", SearchBy, value)


def _customer_name(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ConfigurationError(f"customer_name must be a string, not {shown(value)}.")
    return _filter_text("customer_name", value)


def _keywords(value: Any) -> str | None:
    if is_whole(value):
        return str(value)
    if value is not None and not isinstance(value, str):
        raise ConfigurationError(f"q must be a string of keywords or an id, not {shown(value)}.")
    return _filter_text("q", value)


def _filter_text(name: str, value: str | None) -> str | None:
    if value is None:
        return None
    if not value.strip():
        # The service would ignore an empty filter, and list every payment.
        raise ConfigurationError(f"{name} is empty; leave it out (None) to list all payments.")
    return checked_text(name, value)


def _has_keywords(query: PaymentQuery, _field: attrs.Attribute[Any], value: SearchBy | None) -> None:
    if value is not None and query.q is None:
        # The service would ignore it, and list every payment.
        raise ConfigurationError("search_by has nothing to search for: give q, or leave search_by out.")


@frozen(kw_only=True)
class PaymentQuery:
    """The list's filters and order: its parameters except offset and limit, named as in the service."""

    channel_ids: tuple[int, ...] | None = attrs.field(default=None, converter=_channel_ids)
    processing_status: int | None = attrs.field(default=None, converter=_status)
    customer_name: str | None = attrs.field(default=None, converter=_customer_name)
    invoice_id: int | None = attrs.field(default=None, converter=_invoice)
    search_by: SearchBy | None = attrs.field(default=None, converter=_search_by, validator=_has_keywords)
    q: str | None = attrs.field(default=None, converter=_keywords)
    sort_by: SortBy = attrs.field(default=SortBy.CREATED_AT, converter=_sort_by)
    order_by: OrderBy = attrs.field(default=OrderBy.ASC, converter=_order_by)

    @property
    def filters(self) -> tuple[str, ...]:
        """The names of the filters that are set."""
        names = ("channel_ids", "processing_status", "customer_name", "invoice_id", "search_by", "q")
        return tuple(name for name in names if getattr(self, name) is not None)

    @property
    def filtered(self) -> bool:
        """Whether an update can make a payment enter or leave the list."""
        filters = (self.processing_status, self.customer_name, self.invoice_id, self.q)
        return any(value is not None for value in filters)

    def pairs(self, *, offset: int, limit: int, encoding: ChannelEncoding) -> Query:
        """Return the query of one page, without parameters that are None; zero is a value."""
        values = [
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
        pairs = [(key, _text(value)) for key, value in values if value is not None]
        if self.channel_ids is not None:
            pairs += encoding.pairs(self.channel_ids)
        return tuple(pairs)


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, int) else str(value)


_NAMES = wire_names(Payment)


class _Row(msgspec.Struct, rename=_NAMES, gc=False):
    id: Any = None
    processing_status: Any = None
    customer_name: Any = None
    line_items: Any = None
    customer_id: Any = None
    external_id: Any = None
    external_customer_id: Any = None


class _Body(msgspec.Struct):
    data: list[_Row]


_Matches = Callable[[_Row], bool | None]
"""Whether a row matches a filter; None if it does not show that."""

_body = msgspec.json.Decoder(_Body, float_hook=exact_number)
_SEARCHED: Mapping[str, Callable[[_Row], Any]] = {
    wire: attrgetter(name) for name, wire in _NAMES.items() if wire in set(SearchBy)
}
_INVOICE = wire_names(LineItem)["invoice_id"]


@frozen
class FilterEvidence:
    """What the rows show of their list's filters, by path: some row matches those in `confirmed` and none
    contradicts them; some row contradicts those in `ignored`.
    """

    confirmed: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()


def check_filters(request: Request, body: bytes) -> FilterEvidence:
    """Check the rows of a page against the filters of its request.

    Raises AnswerMismatchError if a row does not match, unless the service is known to ignore that filter.
    """
    filters = dict(_filters(dict(request.query)))
    if not filters:
        return _NO_EVIDENCE
    rows = _body.decode(body).data
    confirmed, ignored = set[str](), set[str]()
    for path, matches in filters.items():
        results = [matches(row) for row in rows]
        if others := [row.id for row, match in zip(rows, results, strict=True) if match is False]:
            what = f"does not match the filter in {len(others):,} of {len(rows):,} rows"
            refuse(request, path, what, others[0], in_part=True in results)
            ignored.add(path)
        elif True in results:
            confirmed.add(path)
    return FilterEvidence(frozenset(confirmed), frozenset(ignored))


_NO_EVIDENCE = FilterEvidence()


def _filters(query: Mapping[str, str]) -> Iterable[tuple[str, _Matches]]:
    if (status := query.get("processingStatus")) is not None:
        yield f"{OF_ROWS}.processingStatus", partial(_has_status, int(status))
    if (invoice := query.get("invoiceId")) is not None:
        yield f"{OF_ROWS}.invoiceId", partial(_has_invoice, int(invoice))
    if (name := query.get("customerName")) is not None:
        yield f"{OF_ROWS}.customerName", partial(_has_text, _folded(name), (lambda row: row.customer_name,))
    if (keywords := query.get("q")) is not None:
        by = query.get("searchBy")
        fields = tuple(_SEARCHED.values()) if by is None else (_SEARCHED[by],)
        yield f"{OF_ROWS}.{by or 'q'}", partial(_has_text, _folded(keywords), fields)


def has_left(query: PaymentQuery, payment: Mapping[str, Any], ignored: Collection[str]) -> bool:
    """Whether a payment no longer has the status or invoice that the query filters by.

    Text filters do not count, since the service may match texts differently, nor do filters that it ignores.
    """
    filters = {"processingStatus": query.processing_status, "invoiceId": query.invoice_id}
    results = fits({name: _text(value) for name, value in filters.items() if value is not None}, payment)
    return any(result is False and path not in ignored for path, result in results.items())


def fits(query: Mapping[str, str], payment: Mapping[str, Any]) -> dict[str, bool | None]:
    """Return whether a payment matches each filter of a query, by path; None if it does not show that."""
    row = msgspec.convert(payment, _Row)
    return {path: matches(row) for path, matches in _filters(query)}


def _has_status(wanted: int, row: _Row) -> bool | None:
    status = whole_of(row.processing_status)
    return None if status is None else status == wanted


def _has_invoice(wanted: int, row: _Row) -> bool | None:
    items = row.line_items if isinstance(row.line_items, list) else []
    invoices = [whole_of(item.get(_INVOICE)) if isinstance(item, dict) else None for item in items]
    if wanted in invoices:
        return True
    return None if not invoices or None in invoices else False


def _has_text(wanted: str, fields: Iterable[Callable[[_Row], Any]], row: _Row) -> bool | None:
    values = [str(value) for field in fields if (value := field(row)) not in (None, "")]
    return any(wanted in _folded(value) for value in values) if values else None


def _folded(text: str) -> str:
    """Return a text without case, accents and repeated spaces, for comparison."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(char for char in plain if not unicodedata.combining(char)).split())
