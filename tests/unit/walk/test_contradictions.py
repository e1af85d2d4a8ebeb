"""The proof of a walk's end when the service contradicts what it showed before."""

from __future__ import annotations

import pytest

from b2b_payments._models import OrderBy, SortBy
from b2b_payments._protocol.query import ChannelEncoding
from b2b_payments._walk.checkpoint import Origin
from b2b_payments._walk.page import Order, PageRequest
from b2b_payments._walk.proof import Ending, Ends
from b2b_payments._walk.service_limits import Totals
from tests.support.walked import ASCENDING, Rows, page, rows

DESCENDING = Order.of(SortBy.CREATED_AT, OrderBy.DESC)


def back(first: int, last: int) -> Rows:
    """Return rows whose time is their id, newest first."""
    return rows(first, last)[::-1]


def read_from(listed: Rows, ends: Ends, *, total: int | None, limit: int, most: int = 400) -> list[int]:
    """Read a list that does not change until the walk ends. Returns the ids in the order delivered."""
    ids: list[int] = []
    step = None
    for _ in range(most):
        request = (step.read if step is not None else None) or PageRequest(ends.resume_at)
        ordered = listed[::-1] if request.from_other_end else listed
        part = ordered[request.offset : request.offset + limit]
        step = ends.offer(
            page(request.offset, part, total=total, from_other_end=request.from_other_end, limit=limit)
        )
        ids += [int(str(part[place][0])) for place in step.rows]
        if ends.ending is not None:
            break
    return ids


def ending(ends: Ends) -> Ending:
    """Return the ending of a walk that is over."""
    assert ends.ending is not None
    return ends.ending


def test_payments_missing_at_the_other_end_are_looked_up() -> None:
    """Read again, the other end's first page lacks payments that it had before: none of them is skipped."""
    ends = Ends(ASCENDING, Totals())
    ends.offer(page(0, rows(1, 10), total=10))
    ends.offer(page(0, back(91, 100), total=10, from_other_end=True))
    shrunk = page(0, back(1, 10), total=10, from_other_end=True)
    step = ends.offer(shrunk)
    assert step.look_up[0] == 91
    assert not step.joined
    step = ends.looked_up(shrunk, dict.fromkeys(step.look_up, True))
    assert step.read == PageRequest(0, full_size=True, from_other_end=True)
    assert step.wait > 0


def test_payments_missing_at_the_front_are_looked_up() -> None:
    """A walk newest first that reads offset 0 again and misses the newest payments looks some of them up."""
    ends = Ends(DESCENDING, Totals())
    ends.offer(page(0, back(91, 100), total=100, order=DESCENDING))
    shrunk = page(0, back(1, 10), total=10, order=DESCENDING)
    step = ends.offer(shrunk)
    assert list(step.look_up) == [100, 96, 91]
    step = ends.looked_up(shrunk, dict.fromkeys(step.look_up, True))
    assert step.read == PageRequest(0, full_size=True)


def test_one_deleted_payment_does_not_vouch_for_the_others() -> None:
    """The last one taken was deleted, but the list hides more than that: others are looked up as well."""
    ends = Ends(ASCENDING, Totals())
    ends.offer(page(0, rows(1, 10), total=10))
    shrunk = page(0, back(1, 5), total=5, from_other_end=True)
    step = ends.offer(shrunk)
    assert list(step.look_up) == [6, 8, 10]
    ends.looked_up(shrunk, {6: True, 8: True, 10: False})
    assert ends.ending is None


def test_deletions_at_the_front_are_believed_if_lookups_agree() -> None:
    """If GET by id says that they are gone, the page is taken and the walk continues after it."""
    ends = Ends(DESCENDING, Totals())
    ends.offer(page(0, back(91, 100), total=100, order=DESCENDING))
    shrunk = page(0, back(81, 90), total=90, order=DESCENDING)
    step = ends.looked_up(shrunk, {91: False})
    assert len(step.rows) == 10
    assert ends.ending is None


@pytest.mark.parametrize("total", [10, None])
def test_an_ignored_offset_ends_the_walk(total: int | None) -> None:
    """If every offset returns the same page, the walk ends after a few of them, and is not complete."""
    ends = Ends(ASCENDING, Totals())
    for offset in range(0, 100, 10):
        if ends.ending is not None:
            break
        ends.offer(page(offset, rows(1, 10), total=total, limit=10))
    assert not ending(ends).complete
    assert "same page" in ending(ends).reason


@pytest.mark.parametrize("when", range(1, 9))
def test_an_ignored_order_in_a_list_of_one_second_is_noticed(when: int) -> None:
    """Both directions show the same list. Once it gets a later payment, the walk soon ends, unproven."""
    ends = Ends(ASCENDING, Totals())
    listed: list[tuple[object, object]] = [(number, 1) for number in range(1, 21)]
    requests = 1
    step = ends.offer(page(0, listed, total=None))
    while ends.ending is None:
        if requests == when:
            listed.append((21, 2))
        request = step.read or PageRequest(ends.resume_at)
        part = listed[request.offset :]
        step = ends.offer(page(request.offset, part, total=None, from_other_end=request.from_other_end))
        requests += 1
    assert not ending(ends).complete
    assert requests < 20


def test_pages_without_new_rows_end_the_walk() -> None:
    """A service that returns nothing new is sent a limited number of requests, however its pages differ."""
    ends = Ends(ASCENDING, Totals())
    requests = 0
    while ends.ending is None:
        requests += 1
        assert requests < 300
        first = 1 + requests % 7
        ends.offer(page(0, rows(first, first + 9), total=500, limit=10))
    assert not ending(ends).complete
    assert "nothing new" in ending(ends).reason


def test_a_total_of_the_page_alone_proves_nothing() -> None:
    """Only a total that exceeded its own page is known to count the list."""
    totals = Totals()
    first = Ends(ASCENDING, totals)
    first.offer(page(0, rows(1, 10), total=10))
    first.offer(page(0, back(1, 20), total=20, from_other_end=True))
    assert ending(first).complete
    second = Ends(ASCENDING, totals)
    second.offer(page(0, rows(1, 9), total=9))
    assert second.ending is None


def test_a_full_page_is_not_the_whole_list_by_its_total() -> None:
    """A page that the limit may have cut says nothing about the rows after it, however short it is."""
    totals = Totals()
    first = Ends(ASCENDING, totals)
    first.offer(page(0, rows(1, 10), total=12))
    first.offer(page(0, back(6, 12), total=12, from_other_end=True))
    for limit, is_over in ((8, False), (9, True)):
        second = Ends(ASCENDING, totals)
        second.offer(page(0, rows(1, 8), total=8, limit=limit))
        assert (second.ending is not None) is is_over


def test_equal_pages_below_their_total_prove_nothing() -> None:
    """If both directions show the same payments of one second and a higher total, it is not complete."""
    totals = Totals()
    totals.note(page(0, rows(1, 50), total=50))
    same: Rows = [(1, 1), (2, 1), (3, 1)]
    for total, complete in ((3, True), (9, False)):
        ends = Ends(ASCENDING, totals)
        read_from(same, ends, total=total, limit=50)
        assert ending(ends).complete is complete


def test_a_run_at_the_end_of_the_list_is_read_once() -> None:
    """A run of equals at the list's end is read once, then from the other end, despite prefetched pages."""
    listed: Rows = [*rows(1, 5), *((number, 6) for number in range(6, 26))]
    ends = Ends(ASCENDING, Totals())
    step = ends.offer(page(0, listed[:5], total=25, limit=5))
    step = ends.offer(page(3, listed[3:8], total=25, limit=5), more=True)
    reads = 0
    while not step.drops_prefetched:
        reads += 1
        assert reads < 20
        request = step.read or PageRequest(ends.resume_at)
        part = listed[request.offset : request.offset + 5]
        step = ends.offer(page(request.offset, part, total=25, limit=5), more=True)
    assert step.read is not None
    assert step.read.from_other_end


def test_a_resumed_walk_knows_the_front_of_the_other_end() -> None:
    """Interrupted between its two ends, a walk that has met resumes after the newest payment of all."""
    origin = Origin("a store", "")
    ends = Ends(ASCENDING, Totals())
    ends.offer(page(0, rows(1, 10), total=10, limit=10))
    ends.offer(page(0, back(31, 40), total=10, from_other_end=True, limit=10))
    for forward, backward in (((8, 9, 18), (8, 23, 32)), ((16, 17, 26), None)):
        near, far = origin.unpack(origin.pack(*ends.cursors))
        assert far is not None
        ends = Ends(ASCENDING, Totals(), near=near, far=far)
        ends.offer(page(forward[0], rows(*forward[1:]), total=10, limit=10))
        if backward is not None:
            ends.offer(page(backward[0], back(*backward[1:]), total=10, from_other_end=True, limit=10))
    assert ending(ends).complete
    near, far = ends.cursors
    assert near is not None
    assert (near.key, near.ids, far) == (40, (40,), None)


def test_a_resumed_walk_does_not_repeat_the_newest_second() -> None:
    """What an earlier process delivered of the newest second is not delivered again where the ends meet."""
    ends = Ends(ASCENDING, Totals())
    ends.offer(page(0, rows(1, 10), total=10, limit=10))
    ends.offer(page(0, back(21, 30), total=10, from_other_end=True, limit=10))
    near, far = ends.cursors
    resumed = Ends(ASCENDING, Totals(), near=near, far=far)
    resumed.offer(page(8, rows(9, 30), total=22, limit=100))
    assert ending(resumed).complete
    near, far = resumed.cursors
    assert near is not None
    assert (near.key, near.ids, far) == (30, (30,), None)


def test_a_repeated_payment_counts_once() -> None:
    """A page that shows payments twice is not the whole list by a total that counts its rows."""
    doubled: Rows = [(number, 1) for number in (1, 1, 2, 2)]
    ends = Ends(ASCENDING, Totals())
    read_from(doubled, ends, total=4, limit=50)
    assert not ending(ends).complete
    totals = Totals()
    totals.note(page(0, rows(1, 20), total=30, limit=20))
    totals.compare(30, 30)
    assert totals.vouch_for(page(0, rows(1, 4), total=4, limit=20))
    assert not totals.vouch_for(page(0, doubled, total=4, limit=20))


def test_a_newer_payment_of_the_same_second_is_remembered() -> None:
    """A payment from the other end, in the second from which the walk resumed, is not delivered again."""
    ends = Ends(ASCENDING, Totals())
    ends.offer(page(0, rows(1, 5), total=5))
    ends.offer(page(0, [(6, 6), *back(1, 5)], total=6, from_other_end=True))
    near, _ = ends.cursors
    resumed = Ends(ASCENDING, Totals(), near=near)
    resumed.offer(page(3, rows(4, 5), total=7))
    step = resumed.offer(page(0, [(7, 6), (6, 6), *back(1, 5)], total=7, from_other_end=True))
    assert step.rows == [0]
    near, _ = resumed.cursors
    assert near is not None
    assert (near.key, set(near.ids)) == (6, {6, 7})


@pytest.mark.parametrize(
    ("limit", "reason"), [(1, "one payment a page, and only pages that overlap"), (5, None)]
)
def test_pages_of_one_payment_are_named_as_the_cause(limit: int, reason: str | None) -> None:
    """Pages of one payment never overlap, so they cannot be joined, and the ending says so."""
    ends = Ends(ASCENDING, Totals())
    read_from(rows(1, 9), ends, total=9, limit=limit)
    assert (reason or "") in ending(ends).reason
    assert ending(ends).complete is (reason is None)


def test_pages_of_two_encodings_prove_nothing() -> None:
    """If channels turn out to be understood in another encoding, earlier pages may lack some of them."""
    ends = Ends(ASCENDING, Totals())
    near = page(0, rows(1, 5), total=None, limit=5)
    near.encoding = ChannelEncoding.REPEAT
    ends.offer(near)
    far = page(0, back(3, 6), total=None, limit=5, from_other_end=True)
    far.encoding = ChannelEncoding.BRACKETS
    ends.offer(far)
    assert not ending(ends).complete
    assert "another encoding" in ending(ends).reason
