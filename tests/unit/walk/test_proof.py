"""The proof of a walk's end, page by page."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from b2b_payments._errors import PaginationError
from b2b_payments._models import OrderBy, SortBy
from b2b_payments._walk.page import Order, PageRequest
from b2b_payments._walk.proof import OTHER_END, Ending, Ends
from b2b_payments._walk.service_limits import Totals
from tests.support.walked import ASCENDING, Rows, page, rows


def walking(
    order: Order = ASCENDING, *, start: int = 0, filtered: bool = False, shown: Sequence[int] = ()
) -> Ends:
    """Return a new walk."""
    return Ends(order, Totals(), start=start, filtered=filtered, shown=shown)


def ending(ends: Ends) -> Ending:
    """Return the ending of a walk that is over."""
    assert ends.ending is not None
    return ends.ending


def back(first: int, last: int) -> Rows:
    """Return rows whose time is their id, newest first."""
    return rows(first, last)[::-1]


def test_an_end_by_the_total_is_checked_from_the_other_end() -> None:
    """A page that reaches its total is no proof: a page in the opposite order is requested."""
    ends = walking()
    step = ends.offer(page(0, rows(1, 10), total=10))
    assert ends.ending is None
    assert step.read == OTHER_END


def test_the_walk_is_complete_once_the_two_ends_meet() -> None:
    """The other end reaches a row older than the last taken; its new rows come in the walk's own order."""
    ends = walking()
    ends.offer(page(0, rows(1, 10), total=12))
    step = ends.offer(page(0, back(6, 12), total=12, from_other_end=True))
    assert [back(6, 12)[place][0] for place in step.rows] == [11, 12]
    assert ending(ends).complete


def test_the_two_ends_do_not_meet_within_one_second() -> None:
    """A page that reaches back to the last second taken, and no further, may lack rows of that second."""
    ends = walking()
    ends.offer(page(0, [(1, 1), (2, 2), (3, 3)], total=3))
    step = ends.offer(page(0, [(5, 4), (4, 3)], total=3, from_other_end=True))
    assert ends.ending is None
    assert step.read == PageRequest(1, full_size=True)


def test_a_walk_continues_past_a_total_of_the_page_alone() -> None:
    """If the other end does not reach back, the walk continues, and ends where the two meet."""
    ends = walking()
    ends.offer(page(0, rows(1, 10), total=10))
    step = ends.offer(page(0, back(21, 30), total=10, from_other_end=True))
    assert step.read == PageRequest(8, full_size=True)
    ends.offer(page(8, rows(9, 18), total=10))
    assert ends.ending is None
    ends.offer(page(16, rows(17, 26), total=10))
    assert ending(ends).complete
    assert "a total of 10" in ending(ends).reason


def test_a_paging_window_is_read_from_both_ends() -> None:
    """Beyond a window, the list is read from its other end, until the two meet."""
    ends = walking()
    ends.offer(page(0, rows(1, 10), total=30))
    ends.offer(page(8, rows(9, 18), total=30))
    assert ends.offer(page(18, [], total=30)).read == OTHER_END
    assert ends.offer(page(0, back(25, 30), total=30, from_other_end=True)).read == PageRequest(
        16, full_size=True
    )
    ends.offer(page(16, rows(17, 18), total=30))
    step = ends.offer(page(18, [], total=30))
    assert step.read == PageRequest(4, full_size=False, from_other_end=True) or step.read is not None
    assert step.read.from_other_end
    ends.offer(page(4, back(16, 26), total=30, from_other_end=True))
    assert ending(ends).complete


def test_a_walk_whose_ends_do_not_meet_is_not_complete() -> None:
    """If both directions end before they meet, the walk says so, and what the service claimed."""
    ends = walking()
    step = ends.offer(page(0, rows(1, 10), total=30))
    shown = {False: rows(1, 10), True: back(21, 30)}
    for _ in range(40):
        if ends.ending is not None:
            break
        request = step.read or PageRequest(8)
        part = shown[request.from_other_end][request.offset :]
        step = ends.offer(page(request.offset, part, total=30, from_other_end=request.from_other_end))
    assert not ending(ends).complete
    assert "before they meet; the service stated a total of 30" in ending(ends).reason


def test_an_ignored_order_proves_nothing() -> None:
    """The opposite page is in the walk's own order: the end is not proven, and nothing is raised."""
    ends = walking()
    ends.offer(page(0, rows(1, 10), total=10))
    step = ends.offer(page(0, rows(1, 10), total=10, from_other_end=True))
    assert step.read == PageRequest(8, full_size=True)
    step = ends.offer(page(8, rows(9, 10), total=10))
    while ends.ending is None:
        assert step.read is not None
        step = ends.offer(page(step.read.offset, rows(1, 10)[step.read.offset :], total=10))
    assert not ending(ends).complete
    assert "ignores orderBy" in ending(ends).reason


def test_a_list_is_read_on_if_the_order_is_ignored() -> None:
    """Rows after the page that seemed to be the last are delivered, though the end stays unproven."""
    ends = walking()
    ends.offer(page(0, rows(1, 10), total=10))
    step = ends.offer(page(0, rows(1, 10), total=10, from_other_end=True))
    assert step.read == PageRequest(8, full_size=True)
    assert len(ends.offer(page(8, rows(9, 18), total=10)).rows) == 8
    step = ends.offer(page(16, rows(17, 18), total=10))
    while ends.ending is None:
        assert step.read is not None
        offset = step.read.offset
        step = ends.offer(
            page(offset, rows(1, 18)[offset:], total=10, from_other_end=step.read.from_other_end)
        )
    assert not ending(ends).complete
    assert "ignores orderBy" in ending(ends).reason


def test_a_walk_over_an_unsorted_list_is_refused() -> None:
    """If the service ignores the sort, no walk over pages is exact, and it raises."""
    with pytest.raises(PaginationError, match="did not sort by createdAt"):
        walking().offer(page(0, [(1, 5), (2, 3)], total=2))


def test_an_empty_list_that_had_payments_is_checked() -> None:
    """Its payments are looked up: if they exist, the list hides them; otherwise they may be out of scope."""
    for found, reason in ((True, "no longer shows payments that are still there"), (None, "does not tell")):
        ends = walking(shown=(7, 8))
        step = ends.offer(page(0, [], total=0))
        for _ in range(20):
            if ends.ending is not None:
                break
            assert step.look_up or step.read
            if step.look_up:
                assert list(step.look_up) == [7, 8]
                empty = page(0, [], total=0, from_other_end=step.read == OTHER_END)
                step = ends.looked_up(empty, dict.fromkeys(step.look_up, found))
            else:
                step = ends.offer(page(0, [], total=0, from_other_end=step.read == OTHER_END))
        assert not ending(ends).complete
        assert reason in ending(ends).reason


@pytest.mark.parametrize(("total", "complete"), [(3, True), (None, False), (5, False)])
def test_a_list_of_one_second_is_whole_only_if_the_total_agrees(total: int | None, *, complete: bool) -> None:
    """The same few rows in both directions may be a window of a long second, unless the total agrees."""
    ends = walking()
    same = [(1, 5), (2, 5), (3, 5)]
    step = ends.offer(page(0, same, total=total))
    for _ in range(40):
        if ends.ending is not None:
            break
        request = step.read or PageRequest(3)
        rest = same[request.offset :]
        step = ends.offer(page(request.offset, rest, total=total, from_other_end=request.from_other_end))
    assert ending(ends).complete is complete


def test_vanished_rows_are_looked_up() -> None:
    """The list says that the last rows taken are gone, so they are looked up by id."""
    ends = walking()
    ends.offer(page(0, rows(1, 10), total=10))
    shrunk = page(0, back(1, 3), total=3, from_other_end=True)
    step = ends.offer(shrunk)
    assert list(step.look_up) == [4, 7, 10]
    ends.looked_up(shrunk, {10: False})
    assert ending(ends).complete


def test_a_list_that_hides_payments_is_read_again() -> None:
    """It is read again a few times, with growing waits, and then not believed."""
    ends = walking()
    ends.offer(page(0, rows(1, 10), total=10))
    empty = page(0, [], total=0, from_other_end=True)
    waits = []
    while ends.ending is None:
        step = ends.offer(empty)
        assert list(step.look_up) == [1, 5, 10]
        step = ends.looked_up(empty, {10: True})
        waits.append(step.wait)
    assert waits == [0.5, 1.0, 2.0, 4.0, 0.0]
    assert not ending(ends).complete
    assert "still there" in ending(ends).reason


def test_a_lookup_without_a_result_leaves_the_end_unproven() -> None:
    """A missing scope and a gateway answer 404 too: then the walk is not complete."""
    ends = walking()
    ends.offer(page(0, rows(1, 10), total=10))
    shrunk = page(0, back(1, 3), total=3, from_other_end=True)
    ends.offer(shrunk)
    ends.looked_up(shrunk, {4: False, 10: None})
    assert not ending(ends).complete


def test_an_empty_list_is_empty_from_both_ends() -> None:
    """A list without payments is empty in both directions; a total above zero contradicts that."""
    for total, complete in ((0, True), (None, True), (7, False)):
        ends = walking()
        read = ends.offer(page(0, [], total=total)).read
        assert read == OTHER_END
        while ends.ending is None:
            far = read is not None and read.from_other_end
            read = ends.offer(page(0, [], total=total, from_other_end=far)).read
        assert ending(ends).complete is complete


@pytest.mark.parametrize("appears", [False, True])
def test_an_empty_list_is_read_twice(*, appears: bool) -> None:
    """A list that is empty in both directions is read again from both, after a wait, to be sure."""
    ends = Ends(ASCENDING, Totals())
    assert ends.offer(page(0, [], total=0)).read == OTHER_END
    step = ends.offer(page(0, [], total=0, from_other_end=True))
    assert (step.read, step.wait, ends.ending) == (PageRequest(0, full_size=True), 0.5, None)
    assert ends.offer(page(0, rows(1, 1) if appears else [], total=None)).read == OTHER_END
    assert ends.ending is None
    ends.offer(page(0, rows(1, 1) if appears else [], total=None, from_other_end=True))
    assert ending(ends).complete
    assert ending(ends).reason.startswith("both" if appears else "the list was empty in both directions")


@pytest.mark.parametrize(("count", "complete"), [(10, True), (11, False)])
def test_a_list_of_one_second_is_believed_up_to_ten_payments(count: int, *, complete: bool) -> None:
    """No service is known to cut lists below the default page of ten; a longer list may have been cut."""
    ends = walking()
    same: Rows = [(number, 1) for number in range(count)]
    step = ends.offer(page(0, same, total=count))
    for _ in range(40):
        if ends.ending is not None:
            break
        request = step.read or PageRequest(count)
        rest = same[request.offset :]
        step = ends.offer(page(request.offset, rest, total=count, from_other_end=request.from_other_end))
    assert ending(ends).complete is complete


def counted(draw: random.Random, *, late: bool) -> Ending:
    """Walk over a run longer than a page, in another order at each request. Returns the ending."""
    listed: list[tuple[int, int]] = [(1, 1), *((number, 2) for number in range(2, 18)), (20, 3), (21, 4)]
    ends = walking()
    step = ends.offer(page(0, listed[:4], total=None, limit=4))
    while ends.ending is None:
        request = step.read or PageRequest(ends.resume_at)
        draw.shuffle(listed)
        listed.sort(key=lambda row: -row[1] if request.from_other_end else row[1])
        part = listed[request.offset : request.offset + 4]
        step = ends.offer(page(request.offset, part, total=None, from_other_end=request.from_other_end))
        end_seen = not request.from_other_end and (20, 3) in part
        if late and end_seen and (99, 2) not in listed:
            listed.append((99, 2))
    return ends.ending


def test_a_run_that_grew_while_counted_is_not_complete() -> None:
    """A payment of a past second that the list shows late upsets the count of a run longer than a page."""
    late = [counted(random.Random(seed), late=True) for seed in range(30)]
    grew = [one for one in late if "appeared late" in one.reason]
    assert len(grew) > 3
    assert not any(one.complete for one in grew)
    assert all(counted(random.Random(seed), late=False).complete for seed in range(30))


@pytest.mark.parametrize("after", [[], [(9, 9)]])
def test_a_walk_that_starts_after_the_end_reads_the_other_end_too(after: Rows) -> None:
    """If both directions are empty at the requested offset, nothing is there, and no row is delivered."""
    ends = walking(start=3)
    step = ends.offer(page(3, [], total=2))
    assert step.read == PageRequest(3, from_other_end=True)
    assert not ends.offer(page(3, after, total=2, from_other_end=True)).rows
    assert ending(ends).complete is not bool(after)


def test_one_payment_is_complete_if_both_ends_show_it() -> None:
    """A list of a single payment shows no order: two pages that agree have to be enough."""
    ends = walking()
    ends.offer(page(0, rows(1, 1), total=1))
    ends.offer(page(0, rows(1, 1), total=1, from_other_end=True))
    assert ending(ends).complete


@pytest.mark.parametrize("after", [[], [(4, 1)]])
def test_a_list_of_one_second_is_read_past_its_end(after: Rows) -> None:
    """If it has several payments, both ends have to agree, and the page after them has to be empty."""
    same: Rows = [(1, 1), (2, 1), (3, 1)]
    ends = walking()
    ends.offer(page(0, same, total=3))
    step = ends.offer(page(0, same[::-1], total=3, from_other_end=True))
    assert step.read == PageRequest(3, full_size=True)
    ends.offer(page(3, after, total=3))
    assert (ends.ending is not None and ends.ending.complete) is not bool(after)


def test_a_last_second_longer_than_a_page_is_counted_from_the_other_end() -> None:
    """The offset of the first older row is the number of its payments; that many ids settle it."""
    ends = walking()
    last: Rows = [(number, 2) for number in range(2, 8)]
    ends.offer(page(0, [(1, 1), *last[:3]], total=7))
    ends.offer(page(1, last[:4], total=7))
    step = ends.offer(page(4, last[3:], total=7))
    listed = {True: [*last[::-1], (1, 1)], False: [(1, 1), *last]}
    reads = 0
    while ends.ending is None:
        assert reads < 40
        reads += 1
        request = step.read or OTHER_END
        part = listed[request.from_other_end][request.offset : request.offset + 4]
        step = ends.offer(page(request.offset, part, total=7, from_other_end=request.from_other_end))
    assert ending(ends).complete


def test_a_second_that_is_not_over_is_not_counted() -> None:
    """The service's current second may get more rows: if it fills more than a page, it is not settled."""
    ends = walking()
    last: Rows = [(number, 2) for number in range(2, 8)]
    listed = {True: [*last[::-1], (1, 1)], False: [(1, 1), *last]}
    step = ends.offer(page(0, listed[False][:4], total=7, now=None))
    for _ in range(200):
        if ends.ending is not None:
            break
        request = step.read or PageRequest(ends.resume_at)
        part = listed[request.from_other_end][request.offset : request.offset + 4]
        step = ends.offer(
            page(request.offset, part, total=7, from_other_end=request.from_other_end, now=None)
        )
    assert not ending(ends).complete


def test_a_single_page_is_believed_if_totals_were_right() -> None:
    """After a proven walk, a page shorter than the longest, with a total that agrees, needs no proof."""
    totals = Totals()
    first = Ends(ASCENDING, totals)
    first.offer(page(0, rows(1, 10), total=12))
    first.offer(page(0, back(6, 12), total=12, from_other_end=True))
    for length, is_over in ((9, True), (10, False)):
        second = Ends(ASCENDING, totals)
        second.offer(page(0, rows(1, length), total=length))
        assert (second.ending is not None) is is_over
    contradicted = Ends(ASCENDING, totals)
    contradicted.offer(page(0, rows(1, 10), total=5))
    third = Ends(ASCENDING, totals)
    third.offer(page(0, rows(1, 9), total=9))
    assert third.ending is None


def test_a_run_counted_under_a_filter_is_not_complete() -> None:
    """Payments may enter a filter with an old time, which counting cannot notice: the walk says so."""
    listed: Rows = [(1, 1), *((number, 2) for number in range(2, 8)), (8, 3), (9, 4)]
    for filtered in (False, True):
        ends = walking(filtered=filtered)
        step = ends.offer(page(0, listed[:4], total=9))
        while ends.ending is None:
            request = step.read or PageRequest(ends.resume_at)
            ordered = listed[::-1] if request.from_other_end else listed
            part = ordered[request.offset : request.offset + 4]
            step = ends.offer(page(request.offset, part, total=9, from_other_end=request.from_other_end))
        assert ending(ends).complete is not filtered
        assert ("counted" in ending(ends).reason) is filtered


def test_another_sort_key_is_never_complete() -> None:
    """Sorted by another key, a walk ends at its total, reads no other end, and is not complete."""
    order = Order.of(SortBy.TOTAL_AMOUNT, OrderBy.ASC)
    ends = walking(order)
    ends.offer(page(0, [(3, 1), (1, 2)], total=2, order=order))
    assert not ending(ends).complete


def test_a_finished_walk_resumes_after_the_newest_row() -> None:
    """Its checkpoint is at the newest row: resuming delivers what was created since, once."""
    ends = walking()
    ends.offer(page(0, rows(1, 10), total=12))
    ends.offer(page(0, back(6, 12), total=12, from_other_end=True))
    near, far = ends.cursors
    assert near is not None
    assert (near.key, near.ids, far) == (12, (12,), None)
    resumed = Ends(ASCENDING, Totals(), near=near)
    step = resumed.offer(page(8, rows(9, 14), total=14))
    assert [rows(9, 14)[number][0] for number in step.rows] == [13, 14]
