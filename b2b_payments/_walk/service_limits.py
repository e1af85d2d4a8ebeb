"""What one client has learned of its service: the largest page, spellings of `channelIds`, totals."""

from __future__ import annotations

from collections.abc import Sequence

from b2b_payments._protocol.query import ChannelEncoding, PaymentQuery
from b2b_payments._protocol.request import Query
from b2b_payments._walk.channels import Spellings
from b2b_payments._walk.page import SortedPage

_SMALLER = (249, 200, 100, 50, 25, 10, 5, 3, 1)
_KEPT_SHOWN = 3
_MOST_LISTS = 256


class Totals:
    """What one client has learned of the totals that its service states, and of how long its pages are."""

    def __init__(self) -> None:
        self._proven = False
        self._wrong = False
        self._longest = 1  # no service cuts its pages after a single row

    def note(self, page: SortedPage) -> None:
        """Take in what a page shows."""
        self._longest = max(self._longest, len(page.ids))
        self._wrong = self._wrong or page.contradicts_its_total

    def prove(self, total: int | None, rows: int) -> None:
        """Note what was stated about a list of so many rows, which was read to its proven end."""
        self._proven = self._proven or total == rows

    def vouch_for(self, page: SortedPage) -> bool:
        """Whether this page is the whole list: by a total, where totals proved right and never wrong, on a
        page that is not as long as pages can be.
        """
        trusted = self._proven and not self._wrong
        return trusted and page.offset == 0 and page.reaches_total and self.is_uncut(page)

    def is_uncut(self, page: SortedPage) -> bool:
        """Whether longer pages than this are known and were asked for, or pages cannot be shorter.

        A payment that it shows twice may stand in the place of another.
        """
        rows = len(page.ids)
        return (0 < rows < min(self._longest, page.limit) or rows == 1) and len(set(page.ids)) == rows


class ServiceLimits:
    """What one client has found out about its service, for all its walks."""

    def __init__(self) -> None:
        self._most_rows: int | None = None  # the largest page that was not refused as too large
        self.spellings: Spellings = Spellings()
        self._totals: dict[tuple[str, ...], Totals] = {}
        self._shown: dict[Query, Sequence[int]] = {}  # by the list's filters, the latest last

    def totals_of(self, query: PaymentQuery) -> Totals:
        """Return what was learned of the totals of lists under the same filters, whatever their values."""
        return self._totals.setdefault(query.filters, Totals())

    def shows(self, query: PaymentQuery, payment_ids: Sequence[int]) -> None:
        """Note payments that a page showed."""
        if payment_ids:
            for filters in (_filters(query), ()):
                self._shown.pop(filters, None)
                self._shown[filters] = payment_ids[-_KEPT_SHOWN:]
            if len(self._shown) > _MOST_LISTS:
                del self._shown[next(iter(self._shown))]

    def shown(self, query: PaymentQuery) -> Sequence[int]:
        """Return some payments that this list has to show unless they were deleted, or left its filters."""
        return self._shown.get(_filters(query), ())

    def is_gone(self, payment_id: int) -> None:
        """Note that a payment was deleted: no list has to show it."""
        for filters, shown in self._shown.items():
            self._shown[filters] = [one for one in shown if one != payment_id]

    def limit(self, wanted: int) -> int:
        """Return the number of rows to ask for."""
        return wanted if self._most_rows is None else min(wanted, self._most_rows)

    def too_large(self, limit: int) -> None:
        """Note that so many rows were refused, by the service or, as more than is read, by us."""
        smaller = next(size for size in _SMALLER if size < limit)
        self._most_rows = self.limit(smaller)


def _filters(query: PaymentQuery) -> Query:
    """Return what the query asks for, in whatever order and of whatever page."""
    pairs = query.pairs(offset=0, limit=0, encoding=ChannelEncoding.COMMA)
    return tuple(pair for pair in pairs if pair[0] not in {"offset", "limit", "orderBy", "sortBy"})
