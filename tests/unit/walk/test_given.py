"""What a walk remembers of the rows that it has given."""

from __future__ import annotations

from b2b_payments._protocol.query import PaymentQuery
from b2b_payments._walk.join import Given
from b2b_payments._walk.service_limits import ServiceLimits


def given_long(keep: int | None) -> Given:
    """Return what is remembered after 20,000 rows, of which two had the key that was to be kept."""
    given = Given(forgets=True)
    given.add([1, 2], [5, 5], mirrored=False)
    if keep is not None:
        given.pin(keep)
    for number in range(100, 20_000, 100):
        given.add(range(number, number + 100), range(number, number + 100), mirrored=False)
        given.forget(number + 99, mirrored=False)
    return given


def test_ids_of_a_kept_key_are_never_let_go() -> None:
    """The ids of the newest second, which another process has to know, outlast all others."""
    assert given_long(5).ids_at(5) == (1, 2)
    assert given_long(None).ids_at(5) == ()
    assert len(given_long(5)) < 10_000


def test_what_was_let_go_does_not_come_again() -> None:
    """A row that is no longer remembered is older than all that may come, and dropped."""
    given = given_long(None)
    assert given.add([1, 777, 99_999], [5, 777, 99_999], mirrored=False) == ([2], 2)


def test_totals_are_learned_of_lists_under_the_same_filters() -> None:
    """Whether a total counts under a filter is not documented: each set of filters has its own."""
    learned = ServiceLimits()
    one = learned.totals_of(PaymentQuery(processing_status=1))
    assert learned.totals_of(PaymentQuery(processing_status=3, order_by="DESC")) is one
    for other in ({}, {"channel_ids": [1]}, {"processing_status": 1, "channel_ids": [1]}, {"q": "7"}):
        assert learned.totals_of(PaymentQuery(**other)) is not one
