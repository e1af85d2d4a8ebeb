"""The join, page by page."""

from __future__ import annotations

import pytest

from b2b_payments._errors import ResponseDecodeError
from b2b_payments._models import OrderBy, SortBy
from b2b_payments._walk.join import Delivered, Join
from b2b_payments._walk.page import Order
from tests.support.walked import page, rows

ASCENDING = Order("created_at", False)


def joining(order: Order = ASCENDING, *, start: int = 0) -> Join:
    """Return a new join."""
    return Join(order, Delivered(forgets=order.exact), start=start)


def test_overlapping_pages_join_without_duplicates() -> None:
    """A page that starts before the last row joins; the rows it repeats are duplicates."""
    join = joining()
    first = join.offer(page(0, rows(1, 10), total=18))
    second = join.offer(page(8, rows(9, 18), total=18))
    assert (len(first.rows), list(second.rows), second.duplicates) == (10, list(range(2, 10)), 2)
    assert join.key == 18


def test_a_page_that_starts_at_the_last_row_does_not_join() -> None:
    """The rule is strict: equals may be in another order each time, so the last row itself proves nothing."""
    join = joining()
    join.offer(page(0, rows(1, 10), total=30))
    step = join.offer(page(9, rows(10, 19), total=30))
    assert not step.joined
    assert step.read is not None
    assert step.read.offset == 8


def test_a_gap_is_closed_by_reading_further_and_further_back() -> None:
    """After a page that leaves a gap, the join reads at `resume_at`, then 2, 8 and 32 rows before it."""
    join = joining()
    join.offer(page(0, rows(1, 100), total=300))
    offsets = []
    offset = 99
    for _ in range(4):
        step = join.offer(page(offset, rows(150, 200), total=300))
        assert step.read is not None
        offset = step.read.offset
        offsets.append(offset)
    assert offsets == [98, 96, 88, 56]


@pytest.mark.slow
def test_memory_stays_constant_over_a_long_walk() -> None:
    """Old ids are forgotten, and a row with such an id is not delivered again."""
    delivered = Delivered(forgets=True)
    join = Join(ASCENDING, delivered)
    most = 0
    for start in range(1, 400_000, 246):
        join.offer(page(start - 1, rows(start, start + 249), total=10**6))
        most = max(most, len(delivered))
    assert most < 10_000
    repeated = join.offer(page(0, rows(1, 250), total=10**6))
    assert not repeated.rows


def test_a_row_that_moves_to_the_end_is_not_repeated() -> None:
    """Sorted by updatedAt, a payment updated meanwhile appears again at the end, but its id is known."""
    order = Order.of(SortBy.UPDATED_AT, OrderBy.ASC)
    join = joining(order)
    for start in range(1, 30_000, 246):
        join.offer(page(start - 1, rows(start, start + 249), total=10**6, order=order))
    assert join.key is not None
    moved: list[tuple[object, object]] = [(1, 29_999), (5, 40_000), (40_001, 40_001)]
    step = join.offer(page(29_000, moved, total=10**6, order=order))
    assert list(step.rows) == [2]


def test_a_service_that_repeats_itself_is_abandoned() -> None:
    """Endless pages that bring nothing new are stuck in the end."""
    join = joining()
    join.offer(page(0, rows(1, 10), total=10**9))
    steps = [join.offer(page(offset, rows(1, 10), total=10**9)) for offset in range(8, 8 * 70, 8)]
    assert not steps[20].stuck
    assert steps[-1].stuck


def test_new_payments_in_front_of_a_gap_do_not_close_it() -> None:
    """Newest first, a gap is given up after a number of pages, also if each of them shows a new payment."""
    newest_first = Order("created_at", True)
    join = joining(newest_first)
    newest, offset, pages = 200, 0, 0
    while True:
        # Pages in the middle of the list always start after the rows of its first page.
        last = newest if offset == 0 else 100
        ids = range(last, last - 50, -1)
        step = join.offer(page(offset, [(one, one) for one in ids], total=300, order=newest_first))
        if step.stuck or pages > 500:
            break
        newest, pages = newest + 1, pages + 1
        offset = step.read.offset if step.read is not None else join.resume_at
    assert step.stuck
    assert pages < 100


@pytest.mark.parametrize("bad", [None, "x", 1.5, [], {}, True, "1" * 30])
def test_a_row_without_an_id_is_refused_with_its_path(bad: object) -> None:
    """An invalid id is named by its path in the answer."""
    with pytest.raises(ResponseDecodeError) as caught:
        page(0, [(1, 1), (bad, 2)], total=2)
    assert caught.value.paths == ["$.data[1].id"]


@pytest.mark.parametrize("bad", [None, "x", "NaN", [], {}, True])
def test_a_row_without_a_time_is_refused_with_its_path(bad: object) -> None:
    """An invalid time is named by its path in the answer."""
    with pytest.raises(ResponseDecodeError) as caught:
        page(0, [(1, 1), (2, bad)], total=2)
    assert caught.value.paths == ["$.data[1].createdAt"]
    assert str(caught.value).startswith("payment 2: expected a time at $.data[1].createdAt, found ")


def test_ids_and_times_may_be_strings() -> None:
    """Numbers may be written as strings."""
    first = page(0, [("1", "10"), ("2", 10.5)], total=2)
    assert list(first.ids) == [1, 2]
    assert [float(key) for key in first.keys] == [10.0, 10.5]


def test_a_page_too_small_to_lead_further_is_read_at_full_size() -> None:
    """If a page is one run of equals except for its first row, more rows are requested at once."""
    join = joining()
    step = join.offer(page(0, [(1, 1), (2, 2), (3, 2)], total=9, full_size=False))
    assert step.read is not None
    assert (step.read.offset, step.read.full_size) == (0, True)


def test_a_walk_may_start_at_an_offset() -> None:
    """With an offset, rows older than the first one delivered are left out for good."""
    join = joining(start=100)
    join.offer(page(100, rows(101, 110), total=300))
    step = join.offer(page(90, rows(91, 115), total=300))
    assert [index + 91 for index in step.rows] == list(range(111, 116))
