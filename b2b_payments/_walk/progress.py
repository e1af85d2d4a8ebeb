"""How long a walk goes on while its pages bring nothing new."""

from __future__ import annotations

from b2b_payments._walk.page import SortedPage

_MOST_IN_A_ROW = 256
"""Pages in a row that may bring nothing new. Where deletes make gaps, it takes a few pages to close one."""
_ALLOWED = 64
_ALLOWED_FOR_EACH_PAGE = 64
_ALLOWED_FOR_EACH_NEW = 8
"""Pages that may bring nothing new: so many, and more for each page that the list fills or that did."""
_MOST_REPEATS = 3
_MOST_REPEATS_OF_FEW = 24
"""Times in a row that a page, or a page of one row or two, may hold what stood further forward."""


class Progress:
    """Counts pages with and without new rows, so that a service that repeats itself is not asked for ever.

    A list that changes brings some pages that are known already; how many grows with its length, which is
    judged by the rows that came, and by those that came `before`. Pages in a row that bring nothing are few
    in any list, but while a run of equals is counted.
    """

    def __init__(self, before: int) -> None:
        self._rows = before
        self._longest = 1
        self._new = 0
        self._in_vain = 0
        self._in_a_row = 0
        self._last: SortedPage | None = None
        self._repeats = 0

    def repeats(self, page: SortedPage) -> bool:
        """Whether page after page further on holds just what a page before them held."""
        if not page.ids:
            return False
        last = self._last
        elsewhere = (
            last is not None
            and 2 * (page.offset - last.offset) >= len(page.ids)
            and page.from_other_end == last.from_other_end
            and set(page.ids) == set(last.ids)
        )
        if not elsewhere:
            self._last, self._repeats = page, 0
        self._repeats += elsewhere
        return self._repeats >= (_MOST_REPEATS if len(page.ids) > 2 else _MOST_REPEATS_OF_FEW)

    def is_over_after(self, page: SortedPage, *, new: int, counting: bool = False) -> bool:
        """Count a page with so many new rows; tell whether too many brought none."""
        self._longest = max(self._longest, len(page.ids))
        if new:
            self._new += 1
            self._in_a_row = 0
            self._rows += new
        else:
            self._in_vain += 1
            self._in_a_row += not counting
        pages = self._rows // self._longest
        allowed = _ALLOWED + _ALLOWED_FOR_EACH_NEW * self._new + _ALLOWED_FOR_EACH_PAGE * pages
        return self._in_a_row > _MOST_IN_A_ROW or self._in_vain > allowed
