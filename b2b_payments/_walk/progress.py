"""How long a walk continues while its pages bring nothing new."""

from __future__ import annotations

from b2b_payments._walk.page import SortedPage

_MAX_IN_A_ROW = 256
"""Pages in a row that may bring nothing new. Closing a gap that deletes made takes a few pages."""
_ALLOWED = 64
_ALLOWED_FOR_EACH_PAGE = 64
_ALLOWED_FOR_EACH_NEW = 8
"""Pages that may bring nothing new in all: a base, plus some per page of the list and per page that did."""
_MAX_REPEATS = 3
_MAX_REPEATS_OF_SHORT_PAGES = 24
"""Repeats in a row of an earlier page that end the walk: usually, and if it has only one or two rows."""


class Progress:
    """Counts pages with and without new rows, so that a service that repeats itself is not read for ever.

    A list that changes brings some pages whose rows are all known. Their number grows with its length, which
    is estimated from the rows received, and from the `rows_before` that an earlier walk received. In a row
    they are few in any list, except while a run of equals is counted.
    """

    def __init__(self, rows_before: int) -> None:
        self._rows = rows_before
        self._longest = 1
        self._pages_with_new = 0
        self._pages_without = 0
        self._in_a_row = 0
        self._last: SortedPage | None = None
        self._repeats = 0

    def repeats(self, page: SortedPage) -> bool:
        """Whether page after page repeats exactly the rows of one that starts at least half a page before."""
        if not page.ids:
            return False
        last = self._last
        is_repeat = (
            last is not None
            and 2 * (page.offset - last.offset) >= len(page.ids)
            and page.from_other_end == last.from_other_end
            and set(page.ids) == set(last.ids)
        )
        if not is_repeat:
            self._last, self._repeats = page, 0
        self._repeats += is_repeat
        return self._repeats >= (_MAX_REPEATS if len(page.ids) > 2 else _MAX_REPEATS_OF_SHORT_PAGES)

    def is_over_after(self, page: SortedPage, *, new: int, counting: bool = False) -> bool:
        """Count a page with `new` new rows. Returns whether too many pages brought none."""
        self._longest = max(self._longest, len(page.ids))
        if new:
            self._pages_with_new += 1
            self._in_a_row = 0
            self._rows += new
        else:
            self._pages_without += 1
            self._in_a_row += not counting
        pages = self._rows // self._longest
        allowed = _ALLOWED + _ALLOWED_FOR_EACH_NEW * self._pages_with_new + _ALLOWED_FOR_EACH_PAGE * pages
        return self._in_a_row > _MAX_IN_A_ROW or self._pages_without > allowed
