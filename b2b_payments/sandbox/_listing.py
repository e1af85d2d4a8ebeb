"""The query of the list of payments, read as the service reads it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

from b2b_payments._half_made import shows_half_made
from b2b_payments.sandbox._table import Table

SORT_KEYS: Final = (
    "moduleName", "processingStatus", "appliedStatus", "createdAt", "customerId", "externalCustomerId",
    "fundingStatus", "updatedAt", "totalAmount",
)  # fmt: skip
SEARCH_KEYS: Final = ("id", "customerId", "externalId", "externalCustomerId")
_EXACT = frozenset({"id", "customerId"})

Pairs = Sequence[tuple[str, str]]


class InvalidFieldsError(Exception):
    """The request has wrong fields: `errors` holds the messages by field, or for a list item by item."""

    def __init__(self, errors: Mapping[str, Any]) -> None:
        super().__init__(errors)
        self.errors = errors


@shows_half_made
@attrs.frozen(kw_only=True)
class ListQuery:
    """What a request asks of the list. `sort_by` None is the service's own order, id."""

    offset: int = 0
    limit: int = 10
    sort_by: str | None = None
    ascending: bool = False
    search_by: str | None = None
    q: str = ""
    customer_name: str = ""
    invoice_id: int | None = None
    processing_status: int | None = None
    channel_ids: frozenset[int] | None = None

    @classmethod
    def parse(cls, pairs: Pairs, channel_encoding: Collection[str]) -> ListQuery:
        """Read the decoded pairs of a query string; unknown names are ignored.

        Raises `InvalidFieldsError` for values that the service does not take.
        """
        given = dict(pairs)
        errors: dict[str, list[str]] = {}

        def number(name: str, default: Any, least: int = 0, most: int | None = None) -> Any:
            text = given.get(name, "")
            if text == "":
                return default
            if not _is_number(text) or int(text) < least or (most is not None and int(text) > most):
                errors[name] = [
                    f"Must be an integer of at least {least}." if most is None else "Invalid choice."
                ]
                return default
            return int(text)

        def word(name: str, known: Collection[str]) -> str | None:
            text = given.get(name) or None
            if text is not None and text not in known:
                errors[name] = [f"Must be one of {', '.join(known)}."]
            return text

        query = cls(
            offset=number("offset", 0),
            limit=number("limit", 10, least=1),
            sort_by=word("sortBy", SORT_KEYS),
            ascending=word("orderBy", ("DESC", "ASC")) == "ASC",
            search_by=word("searchBy", SEARCH_KEYS),
            q=given.get("q", ""),
            customer_name=given.get("customerName", ""),
            invoice_id=number("invoiceId", None),
            processing_status=number("processingStatus", None, most=4),
            channel_ids=_channel_ids(pairs, channel_encoding, errors),
        )
        if errors:
            raise InvalidFieldsError(errors)
        return query

    @property
    def filters(self) -> object:
        """What tells this selection from another; None where every row matches."""
        plain = attrs.evolve(self, offset=0, limit=10, sort_by=None, ascending=False)
        if not plain.q:
            plain = attrs.evolve(plain, search_by=None)
        return None if plain == ListQuery() else plain

    def select(self, table: Table, ids: Iterable[int]) -> Iterable[int]:
        """Give those of these payments that match, in the order in which they are given."""
        if (channels := self.channel_ids) is not None:
            channel = table.column("channelId")
            ids = [one for one in ids if channel[one] in channels]
        if self.processing_status is not None:
            status = table.column("processingStatus")
            ids = [one for one in ids if status[one] == self.processing_status]
        if self.customer_name:
            name, wanted = table.column("customerName"), self.customer_name.casefold()
            ids = [one for one in ids if wanted in name[one]]
        if self.invoice_id is not None:
            invoices = table.column("invoiceIds")
            ids = [one for one in ids if self.invoice_id in invoices[one]]
        if self.q:
            ids = self._search(table, ids)
        return ids

    def _search(self, table: Table, ids: Iterable[int]) -> list[int]:
        if self.search_by is not None:
            values = table.column(self.search_by)
            if self.search_by in _EXACT:
                return [one for one in ids if str(values[one]) == self.q]
            return [one for one in ids if self.q in values[one]]
        columns = [table.column(name) for name in SEARCH_KEYS]
        return [one for one in ids if any(self.q in str(column[one]) for column in columns)]


@shows_half_made
@attrs.frozen(kw_only=True)
class Listing:
    """One page of the list. `asked` is the limit of the request, `limit` the one the page was cut with."""

    ids: list[int]
    total: int
    asked: int
    limit: int


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 18


def _channel_ids(
    pairs: Pairs, understood: Collection[str], errors: dict[str, list[str]]
) -> frozenset[int] | None:
    plain = [value for name, value in pairs if name == "channelIds"]
    if "repeat-last" in understood and plain and "," not in plain[-1]:
        plain, understood = plain[-1:], {*understood, "repeat"}
    bracketed = [value for name, value in pairs if name == "channelIds[]"]
    for values, repeated, joined in ((plain, "repeat", "comma"), (bracketed, "brackets", "brackets-comma")):
        if not values or values == [""]:
            continue
        # One id alone is spelled the same either way.
        ways = {joined} if len(values) == 1 and "," in values[0] else {repeated}
        if len(values) == 1 and "," not in values[0]:
            ways.add(joined)
        if not ways & set(understood):
            continue
        texts = values[0].split(",") if ways == {joined} else values
        if not all(_is_number(text) for text in texts):
            errors["channelIds"] = ["Must be a list of integers."]
            return None
        return frozenset(map(int, texts))
    return None
