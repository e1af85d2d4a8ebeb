"""Whether the rows of a page are those that its list's filters ask for.

A page says its offset, but not which list it is of. Its rows do, as far as they show what was filtered by.
How the service matches texts is not documented [open]: they are compared without case and accents, and a row
that does not show a value contradicts nothing.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import attrs
import msgspec

from b2b_payments._protocol.belonging import OF_ROWS, number, require
from b2b_payments._protocol.json import exact_number
from b2b_payments._protocol.request import Request


class _Row(msgspec.Struct, rename="camel", gc=False):
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
"""Whether a row is one that was asked for; None where it does not show that."""

_body = msgspec.json.Decoder(_Body, float_hook=exact_number)
_SEARCHED: Mapping[str, Callable[[_Row], Any]] = {
    "id": lambda row: row.id,
    "customerId": lambda row: row.customer_id,
    "externalId": lambda row: row.external_id,
    "externalCustomerId": lambda row: row.external_customer_id,
}


@attrs.frozen
class Filtered:
    """What rows show of their list's filters, by the filters' places: `kept` all show what was asked for,
    `ignored` some do not.
    """

    kept: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()


def check_filters(request: Request, body: bytes) -> Filtered:
    """Hold the rows of a page against the filters of its request.

    Raises AnswerMismatchError where rows show something else, unless the service is known to ignore that
    filter.
    """
    filters = dict(_filters(dict(request.query)))
    if not filters:
        return _NOT_FILTERED
    rows = _body.decode(body).data
    kept, ignored = set[str](), set[str]()
    for place, matches in filters.items():
        found = [matches(row) for row in rows]
        if others := [row.id for row, match in zip(rows, found, strict=True) if match is False]:
            what = f"is not as asked for in {len(others):,} of {len(rows):,} rows"
            require(request, place, what, others[0], in_part=True in found)
            ignored.add(place)
        elif True in found:
            kept.add(place)
    return Filtered(frozenset(kept), frozenset(ignored))


_NOT_FILTERED = Filtered()


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


def _has_status(asked: int, row: _Row) -> bool | None:
    status = number(row.processing_status)
    return None if status is None else status == asked


def _has_invoice(asked: int, row: _Row) -> bool | None:
    items = row.line_items if isinstance(row.line_items, list) else []
    found = [number(item.get("invoiceId")) if isinstance(item, dict) else None for item in items]
    if asked in found:
        return True
    return None if not found or None in found else False


def _has_text(asked: str, fields: Iterable[Callable[[_Row], Any]], row: _Row) -> bool | None:
    values = [str(value) for field in fields if (value := field(row)) not in (None, "")]
    return any(asked in _folded(value) for value in values) if values else None


def _folded(text: str) -> str:
    """Give a text without case, accents and double spaces."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(one for one in plain if not unicodedata.combining(one)).split())
