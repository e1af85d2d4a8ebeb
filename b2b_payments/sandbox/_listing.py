"""The list's query, parsed as the service does."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

from b2b_payments._printable import frozen
from b2b_payments.sandbox._table import Table

SORT_KEYS: Final = (
    "moduleName", "processingStatus", "appliedStatus", "createdAt", "customerId", "externalCustomerId",
    "fundingStatus", "updatedAt", "totalAmount",
)  # fmt: skip
SEARCH_KEYS: Final = ("id", "customerId", "externalId", "externalCustomerId")
_EXACT = frozenset({"id", "customerId"})
_WORD = re.compile(r"\w+")

Pairs = Sequence[tuple[str, str]]


class InvalidFieldsError(Exception):
    """The request has invalid fields: `errors` has the messages by field, or for a list, item by item."""

    def __init__(self, errors: Mapping[str, Any]) -> None:
        super().__init__(errors)
        self.errors = errors


@frozen(kw_only=True)
class ListQuery:
    """The parameters of a list request. None as `sort_by` is the service's own order, by id.

    `by_words` finds texts that share a word with `q`, ignoring case, instead of those that contain it;
    `by_parts` finds parts of ids, too.
    """

    offset: int = 0
    limit: int = 10
    sort_by: str | None = None
    ascending: bool = False
    search_by: str | None = None
    q: str = ""
    by_words: bool = False
    by_parts: bool = False
    customer_name: str = ""
    invoice_id: int | None = None
    processing_status: int | None = None
    channel_ids: frozenset[int] | None = None

    @classmethod
    def parse(cls, pairs: Pairs, channel_encoding: Collection[str]) -> ListQuery:
        """Parse the decoded pairs of a query string; unknown names are ignored.

        Raises `InvalidFieldsError` for values that the service does not accept.
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
        """A key that identifies this selection, or None if every row matches."""
        plain = attrs.evolve(self, offset=0, limit=10, sort_by=None, ascending=False)
        if not plain.q:
            plain = attrs.evolve(plain, search_by=None, by_words=False, by_parts=False)
        return None if plain == ListQuery() else plain

    def select(self, table: Table, ids: Iterable[int]) -> Iterable[int]:
        """Return the payments among `ids` that match, in the given order."""
        if (channels := self.channel_ids) is not None:
            channel = table.column("channelId")
            ids = [one for one in ids if channel[one] in channels]
        if self.processing_status is not None:
            status = table.column("processingStatus")
            ids = [one for one in ids if status[one] == self.processing_status]
        if self.customer_name:
            name, part = table.column("customerName"), self.customer_name.casefold()
            ids = [one for one in ids if part in name[one]]
        if self.invoice_id is not None:
            invoices = table.column("invoiceIds")
            ids = [one for one in ids if self.invoice_id in invoices[one]]
        if self.q:
            ids = self._search(table, ids)
        return ids

    def _search(self, table: Table, ids: Iterable[int]) -> list[int]:
        if self.search_by is not None:
            values = table.column(self.search_by)
            if self.search_by in _EXACT and not self.by_parts:
                return [one for one in ids if str(values[one]) == self.q]
            return [one for one in ids if self._finds(str(values[one]))]
        columns = [table.column(name) for name in SEARCH_KEYS]
        return [one for one in ids if any(self._finds(str(column[one])) for column in columns)]

    def _finds(self, text: str) -> bool:
        if self.by_words:
            return not _words(self.q).isdisjoint(_words(text))
        return self.q in text


@frozen(kw_only=True)
class Listing:
    """One page of the list. `asked` is the requested limit, `limit` the one that was used."""

    ids: list[int]
    total: int
    asked: int
    limit: int


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold()))


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
        is_single = len(values) == 1
        encodings = {joined} if is_single else {repeated}
        if is_single and "," not in values[0]:
            encodings.add(repeated)  # a single id is written the same in both
        if encodings.isdisjoint(understood):
            continue
        texts = values[0].split(",") if is_single else values
        if not all(map(_is_number, texts)):
            errors["channelIds"] = ["Must be a list of integers."]
            return None
        return frozenset(map(int, texts))
    return None
