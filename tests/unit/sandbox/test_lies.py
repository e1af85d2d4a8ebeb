"""Lists that contradict the store, as configured in the rules."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import attrs
import msgspec
import pytest

from b2b_payments._errors import ConfigurationError
from b2b_payments.sandbox import ListQuery, Rules, Store
from b2b_payments.sandbox._service import ROOT, answer

DIRECTIONS = pytest.mark.parametrize("ascending", [True, False])


def _query(**about: Any) -> ListQuery:
    given: dict[str, Any] = {"limit": 250, "sort_by": "createdAt", "ascending": True}
    return ListQuery(**given | about)


def _ids(store: Store, **about: Any) -> list[int]:
    return store.page(_query(**about)).ids


def _listed(store: Store, *pairs: tuple[str, str]) -> list[int]:
    answered = answer(store, "GET", f"{ROOT}/ip/payments", [("limit", "250"), *pairs], None)
    return [int(row["id"]) for row in msgspec.json.decode(answered.body)["data"]]


def _status(store: Store, payment_id: int) -> int:
    return answer(store, "GET", f"{ROOT}/ip/payments/{payment_id}", [], None).status


@DIRECTIONS
@pytest.mark.parametrize("equals", ["stable", "shuffled"])
def test_paging_window(equals: Any, *, ascending: bool) -> None:
    """Pages beyond the window are empty in both directions, whatever the total, with or without filters."""
    store = Store(100, rules=Rules(paging_window=30, equals=equals))
    whole = list(range(1, 101)) if ascending else list(range(100, 0, -1))
    assert sorted(_ids(store, ascending=ascending)) == sorted(whole[:30])
    assert len(_ids(store, offset=25, limit=10, ascending=ascending)) == 5
    behind = store.page(_query(offset=30, ascending=ascending))
    assert (behind.ids, behind.total) == ([], 100)
    of_channel = store.page(_query(channel_ids=frozenset({1, 2}), ascending=ascending))
    assert len(of_channel.ids) == 30 < of_channel.total


def test_page_beyond_a_paging_window_can_be_refused() -> None:
    """A page is refused if its last row could be beyond the window."""
    store = Store(100, rules=Rules(paging_window=30, max_limit=20, beyond_window=422))
    for offset, limit, status in ((10, 20, 200), (10, 250, 200), (11, 20, 422), (11, 19, 200), (30, 1, 422)):
        pairs = [("offset", str(offset)), ("limit", str(limit))]
        assert answer(store, "GET", f"{ROOT}/ip/payments", pairs, None).status == status


def test_total_of_the_page() -> None:
    """The total can be the number of rows on its page."""
    store = Store(100, rules=Rules(total_count="page"))
    assert [store.page(_query(offset=offset, limit=40)).total for offset in (0, 40, 80, 120)] == [
        40, 40, 20, 0,
    ]  # fmt: skip


def test_wandering_total() -> None:
    """The total can differ between answers: too small or too large, but near the true one."""
    store = Store(100, rules=Rules(total_count="wandering"))
    totals = [store.page(_query()).total for _ in range(60)]
    assert len(set(totals)) > 10
    assert 80 < min(totals) < 100 < max(totals) < 120
    empty = Store(0, rules=Rules(total_count="wandering"))
    assert {empty.page(_query()).total for _ in range(60)} == {0, 1, 2}


@pytest.mark.parametrize("total_count", ["filtered", "store", "wandering"])
def test_capped_total(total_count: Any) -> None:
    """No total exceeds the cap, and a smaller one is unchanged."""
    store = Store(100, rules=Rules(total_count=total_count, total_cap=50))
    assert store.page(_query()).total == 50
    assert len(_ids(store)) == 100
    assert Store(20, rules=Rules(total_cap=50)).page(_query()).total == 20


@DIRECTIONS
def test_consistent_but_incomplete_lists(*, ascending: bool) -> None:
    """Lists of only the oldest rows agree in every direction, filter and total; GET finds the others."""
    store = Store(100, rules=Rules(shown=10))
    page = store.page(_query(ascending=ascending))
    assert sorted(page.ids) == list(range(1, 11))
    assert page.ids == sorted(page.ids, reverse=not ascending)
    assert page.total == 10
    channels = [store.page(_query(channel_ids=frozenset({one}), ascending=ascending)) for one in (1, 2, 3)]
    assert sorted(one for channel in channels for one in channel.ids) == list(range(1, 11))
    assert sum(channel.total for channel in channels) == 10
    store.rules = attrs.evolve(store.rules, total_count="store")
    assert store.page(_query(channel_ids=frozenset({1}))).total == 10
    assert {_status(store, one) for one in (1, 10, 11, 100)} == {200}
    store.delete(1)
    assert sorted(_ids(store)) == list(range(2, 12))
    store.rules = Rules(shown=0)
    assert (_ids(store), _status(store, 100)) == ([], 200)


@pytest.mark.parametrize(
    "pair",
    [
        ("sortBy", "totalAmount"),
        ("processingStatus", "4"),
        ("customerName", "acme"),
        ("invoiceId", "13"),
        ("q", "95"),
        ("offset", "20"),
        ("channelIds", "1"),
    ],
)
def test_ignored_parameters(pair: tuple[Any, str]) -> None:
    """An ignored parameter has no effect on the list; otherwise it has."""
    store = Store(60)
    plain = _listed(store)
    assert _listed(store, pair) != plain
    store.rules = Rules(ignores={pair[0]})
    assert _listed(store, pair) == plain


def test_ignored_parameter_may_be_invalid() -> None:
    """An invalid value of an ignored parameter is not refused."""
    store = Store(60, rules=Rules(ignores=("processingStatus", "limit")))
    assert len(_listed(store, ("processingStatus", "99"), ("limit", "0"))) == 10


@pytest.mark.parametrize(("order", "expected"), [("ASC", [1, 2, 3]), ("DESC", [3, 2, 1])])
def test_ignored_order(order: Any, expected: list[int]) -> None:
    """If orderBy is ignored, the order is that of the rules."""
    store = Store(3, rules=Rules(ignores=("orderBy",), ignored_order=order))
    for asked in ("ASC", "DESC"):
        assert _listed(store, ("sortBy", "createdAt"), ("orderBy", asked)) == expected
    assert Rules().ignored_order == "ASC"


def _is_on_channel_2(row: Mapping[str, Any]) -> bool:
    return bool(row["channelId"] == "2")


@pytest.mark.parametrize("by_ids", [True, False])
def test_scope_hides_rows(*, by_ids: bool) -> None:
    """Hidden rows are in no list and no count, and each of their endpoints answers as for a missing row."""
    store = Store(60)
    hidden = {one for one in store.ids() if store.channel(one) == 2}
    assert 5 < len(hidden) < 40
    store.rules = Rules(hidden=hidden if by_ids else _is_on_channel_2)
    page = store.page(_query())
    assert page.ids == [one for one in range(1, 61) if one not in hidden]
    assert page.total == 60 - len(hidden)
    assert store.page(_query(channel_ids=frozenset({2}))).total == 0
    one, other = min(hidden), min({*range(1, 61)} - hidden)
    missing = answer(store, "GET", f"{ROOT}/ip/payments/99", [], None)
    assert missing.status == 404
    for method, path in (("GET", ""), ("GET", "/transactions"), ("DELETE", "")):
        assert answer(store, method, f"{ROOT}/ip/payments/{one}{path}", [], None) == missing
    assert (_status(store, other), one in store) == (200, True)
    store.rules = Rules()
    assert (len(_ids(store)), _status(store, one)) == (60, 200)


def test_predicate_sees_changes() -> None:
    """A row that leaves the scope by a change is hidden from then on."""
    store = Store(9, rules=Rules(hidden=lambda row: bool(row["payerName"] == "secret")))
    assert len(_ids(store)) == 9
    store.update(4, payerName="secret")
    assert (_ids(store), _status(store, 4)) == ([1, 2, 3, 5, 6, 7, 8, 9], 404)


def test_restored_backup() -> None:
    """Restoring brings back old versions and deleted payments and removes new ones, also a second time."""
    watch = SimpleNamespace(now=0.0)
    store = Store(5, rules=Rules(list_lag=10.0), lag_time=lambda: float(watch.now))
    store.update(1, payerName="before")
    watch.now = 20.0
    old, backup = list(store.all_wire()), store.snapshot()
    for _ in range(2):
        store.update(1, payerName="after")
        store.delete(2)
        new = store.insert(payerName="new")
        clock = store.clock
        store.restore(backup)
        assert list(store.all_wire()) == old
        assert [msgspec.json.decode(store.encoded(one)) for one in _ids(store)] == old
        assert [_status(store, one) for one in (2, new)] == [200, 404]
        assert store.clock == clock
        watch.now += 20.0
        assert _ids(store) == [1, 2, 3, 4, 5]
    assert store.insert() == new
    assert msgspec.json.decode(store.encoded(1)) == old[0]


def test_reassigned_id() -> None:
    """After a restore, a new payment with the id of a lost one is listed with its own data."""
    store = Store(2)
    backup = store.snapshot()
    first = store.insert()
    listed = msgspec.json.decode(store.encoded(first))
    store.restore(backup)
    assert store.insert() == first
    assert msgspec.json.decode(store.encoded(first)) == store.wire(first)
    assert store.wire(first)["createdAt"] == listed["createdAt"] + 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"total_count": "none"},
        {"total_cap": -1},
        {"paging_window": -1},
        {"beyond_window": 403},
        {"shown": -1},
        {"ignores": ("order_by",)},
        {"ignored_order": "asc"},
    ],
)
def test_unknown_lies(wrong: dict[str, Any]) -> None:
    """An unknown value is rejected with the name of its rule."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Rules(**wrong)
