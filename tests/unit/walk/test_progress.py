"""How long a walk continues while its pages bring nothing new."""

from __future__ import annotations

import pytest

from b2b_payments._walk.page import SortedPage
from b2b_payments._walk.progress import Progress
from tests.support import walked


def page(number: int) -> SortedPage:
    """Return page `number` of a long list."""
    return walked.page(250 * number, walked.rows(250 * number, 250 * number + 249), total=None)


def pages_until_over(progress: Progress, *, counting: bool = False) -> int:
    """Count the different pages without new rows that it takes until progress is over."""
    for number in range(100_000):
        if progress.is_over_after(page(number), new=0, counting=counting):
            return number
    raise AssertionError("it never ends")


@pytest.mark.parametrize("pages", [1, 400])
def test_pages_without_new_rows_in_a_row_are_limited(pages: int) -> None:
    """After any number of pages with new rows, a few hundred without any are the end."""
    progress = Progress(0)
    for number in range(pages):
        assert not progress.is_over_after(page(number), new=250)
    assert pages_until_over(progress) <= 256


def test_counting_a_run_may_take_longer() -> None:
    """While a run of equals is counted, most pages bring nothing new: they are limited in total only."""
    progress = Progress(0)
    for number in range(40):
        assert not progress.is_over_after(page(number), new=250)
    assert 1_000 < pages_until_over(progress, counting=True) < 4_000


def test_a_new_row_now_and_then_is_progress() -> None:
    """Pages that bring something from time to time do not end a walk, however many others are in between."""
    progress = Progress(0)
    for number in range(300):
        assert not progress.is_over_after(page(number), new=number % 8 == 0)
