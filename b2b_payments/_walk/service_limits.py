"""What one client has learned about its service: the largest page, `channelIds` encodings, totals."""

from __future__ import annotations

from collections.abc import Sequence

from b2b_payments._protocol.query import ChannelEncoding, PaymentQuery
from b2b_payments._protocol.request import Query
from b2b_payments._walk.channels import LearnedEncodings
from b2b_payments._walk.page import SortedPage

_SMALLER_LIMITS = (249, 200, 100, 50, 25, 10, 5, 3, 1)
_SHOWN_PER_LIST = 3
_MAX_LISTS = 256


class Totals:
    """What one client has learned about the totals that its service states, and how long its pages can be."""

    def __init__(self) -> None:
        self._proven = False
        self._wrong = False
        self._longest = 1  # no service cuts its pages after a single row

    def note(self, page: SortedPage) -> None:
        """Note the length of a page, and whether it contradicts its own total."""
        self._longest = max(self._longest, len(page.ids))
        self._wrong = self._wrong or page.contradicts_its_total

    def compare(self, total: int | None, rows: int) -> None:
        """Compare a stated total with the number of rows of a list that was read to its proven end."""
        self._proven = self._proven or total == rows

    def vouch_for(self, page: SortedPage) -> bool:
        """Whether this page is the whole list: it ends at its total, is shorter than pages can be, and the
        service's totals have been right and never wrong.
        """
        trusted = self._proven and not self._wrong
        return trusted and page.offset == 0 and page.reaches_total and self.is_uncut(page)

    def is_uncut(self, page: SortedPage) -> bool:
        """Whether no limit cut this page: it is shorter than its limit and than the longest page so far.

        A page of one row is uncut, too. One that shows a payment twice is not: another may be missing for it.
        """
        rows = len(page.ids)
        return (0 < rows < min(self._longest, page.limit) or rows == 1) and len(set(page.ids)) == rows


class ServiceLimits:
    """What one client has learned about its service, shared by all its walks."""

    def __init__(self) -> None:
        self._max_rows: int | None = None  # the largest limit to request, once a larger one was refused
        self.encodings: LearnedEncodings = LearnedEncodings()
        self._totals: dict[tuple[str, ...], Totals] = {}
        self._shown: dict[Query, Sequence[int]] = {}  # by the list's filters, the latest last

    def totals_of(self, query: PaymentQuery) -> Totals:
        """Return what was learned about the totals of lists with the same filters, whatever their values."""
        return self._totals.setdefault(query.filters, Totals())

    def note_shown(self, query: PaymentQuery, payment_ids: Sequence[int]) -> None:
        """Note payments that a page of a list showed."""
        if payment_ids:
            for filters in (_filters(query), ()):
                self._shown.pop(filters, None)
                self._shown[filters] = payment_ids[-_SHOWN_PER_LIST:]
            if len(self._shown) > _MAX_LISTS:
                del self._shown[next(iter(self._shown))]

    def shown(self, query: PaymentQuery) -> Sequence[int]:
        """Return some payments that this list must show unless they were deleted or left its filters."""
        return self._shown.get(_filters(query), ())

    def note_deleted(self, payment_id: int) -> None:
        """Note that a payment was deleted: no list has to show it."""
        for filters, shown in self._shown.items():
            self._shown[filters] = [one for one in shown if one != payment_id]

    def limit(self, wanted: int) -> int:
        """Return the limit to request for a page of `wanted` rows."""
        return wanted if self._max_rows is None else min(wanted, self._max_rows)

    def note_too_large(self, limit: int) -> None:
        """Note that a page with this limit was refused by the service, or was too large for us to read."""
        smaller = next(size for size in _SMALLER_LIMITS if size < limit)
        self._max_rows = self.limit(smaller)


def _filters(query: PaymentQuery) -> Query:
    """Return the parameters of a query without order and page."""
    pairs = query.pairs(offset=0, limit=0, encoding=ChannelEncoding.COMMA)
    return tuple(pair for pair in pairs if pair[0] not in {"offset", "limit", "orderBy", "sortBy"})
