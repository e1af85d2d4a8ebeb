"""How long a walk goes on while nothing new comes."""

from __future__ import annotations

import pytest

from b2b_payments._walk.page import SortedPage
from b2b_payments._walk.progress import Progress
from tests.support import walked


def page(number: int) -> SortedPage:
    """Return one page of a long list."""
    return walked.page(250 * number, walked.rows(250 * number, 250 * number + 249), total=None)


def pages_in_vain(progress: Progress, *, counting: bool = False) -> int:
    """Offer pages that bring nothing new, each another; give how many it took."""
    for number in range(100_000):
        if progress.is_over_after(page(number), new=0, counting=counting):
            return number
    raise AssertionError("it never ends")


@pytest.mark.parametrize("pages", [1, 400])
def test_pages_in_vain_are_bounded_in_a_row(pages: int) -> None:
    """After any number of pages that brought something, a few hundred in vain are the end."""
    progress = Progress(0)
    for number in range(pages):
        assert not progress.is_over_after(page(number), new=250)
    assert pages_in_vain(progress) <= 256


def test_a_run_that_is_counted_takes_longer() -> None:
    """While a run of equals is counted, most pages bring nothing new: that many are allowed in all only."""
    progress = Progress(0)
    for number in range(40):
        assert not progress.is_over_after(page(number), new=250)
    assert 1_000 < pages_in_vain(progress, counting=True) < 4_000


def test_a_new_row_now_and_then_is_progress() -> None:
    """Pages that bring something from time to time do not end a walk, however many others stand between."""
    progress = Progress(0)
    for number in range(300):
        assert not progress.is_over_after(page(number), new=number % 8 == 0)
