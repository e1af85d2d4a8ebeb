"""What the totals that a service states are worth."""

from __future__ import annotations

from b2b_payments._walk.page import KeyedPage


class Totals:
    """What one client has learned of the totals that its service states, and of how long its pages are."""

    def __init__(self) -> None:
        self._proven = False
        self._wrong = False
        self._longest = 1  # no service cuts its pages after a single row

    def note(self, page: KeyedPage) -> None:
        """Take in what a page shows."""
        self._longest = max(self._longest, len(page.ids))
        self._wrong = self._wrong or page.contradicts_its_total

    def prove(self, total: int | None, rows: int) -> None:
        """Note what was stated about a list of so many rows, which was read to its proven end."""
        self._proven = self._proven or total == rows

    def vouch_for(self, page: KeyedPage) -> bool:
        """Whether this page is the whole list: by a total, where totals proved right and never wrong, on a
        page that is not as long as pages can be.
        """
        trusted = self._proven and not self._wrong
        return trusted and page.offset == 0 and page.reaches_total and self.is_uncut(page)

    def is_uncut(self, page: KeyedPage) -> bool:
        """Whether longer pages than this are known and were asked for, or pages cannot be shorter."""
        rows = len(page.ids)
        return 0 < rows < min(self._longest, page.limit) or rows == 1
