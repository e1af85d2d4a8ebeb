"""What a walk remembers about the rows that it has delivered."""

from __future__ import annotations

from b2b_payments._protocol.query import PaymentQuery
from b2b_payments._walk.join import Delivered
from b2b_payments._walk.service_limits import ServiceLimits


def after_many_rows(pinned: int | None) -> Delivered:
    """Return what is remembered after 20,000 rows, with the key of the first two rows pinned or not."""
    delivered = Delivered(forgets=True)
    delivered.add([1, 2], [5, 5], mirrored=False)
    if pinned is not None:
        delivered.pin(pinned)
    for number in range(100, 20_000, 100):
        delivered.add(range(number, number + 100), range(number, number + 100), mirrored=False)
        delivered.forget(number + 99, mirrored=False)
    return delivered


def test_pinned_ids_are_never_forgotten() -> None:
    """The ids of the newest second, which another process needs to resume, outlast all others."""
    assert after_many_rows(5).ids_at(5) == (1, 2)
    assert after_many_rows(None).ids_at(5) == ()
    assert len(after_many_rows(5)) < 10_000


def test_a_forgotten_row_is_not_delivered_again() -> None:
    """A row that is no longer remembered is older than all that can follow, so it is dropped."""
    delivered = after_many_rows(None)
    assert delivered.add([1, 777, 99_999], [5, 777, 99_999], mirrored=False) == ([2], 2)


def test_totals_are_learned_for_each_set_of_filters() -> None:
    """Whether a total counts under a filter is not documented, so each set of filters has its own record."""
    learned = ServiceLimits()
    totals = learned.totals_of(PaymentQuery(processing_status=1))
    assert learned.totals_of(PaymentQuery(processing_status=3, order_by="DESC")) is totals
    for other in ({}, {"channel_ids": [1]}, {"processing_status": 1, "channel_ids": [1]}, {"q": "7"}):
        assert learned.totals_of(PaymentQuery(**other)) is not totals


def test_payments_shown_are_remembered_for_a_bounded_number_of_lists() -> None:
    """For each set of filters the latest payments are remembered, and the oldest sets are forgotten."""
    learned = ServiceLimits()
    queries = [PaymentQuery(q=str(number)) for number in range(1_000)]
    for query in queries:
        learned.note_shown(query, [1, 2, 3, 4])
    assert learned.shown(queries[-1]) == [2, 3, 4]
    assert learned.shown(PaymentQuery()) == [2, 3, 4]
    assert not learned.shown(queries[0])
    assert sum(bool(learned.shown(query)) for query in queries) == 255
