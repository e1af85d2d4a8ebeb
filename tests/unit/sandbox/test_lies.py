"""Lists that contradict the store, as the rules order them."""

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
    """Rows behind the window come empty in either direction, whatever the total says, filters or not."""
    store = Store(100, rules=Rules(paging_window=30, equals=equals))
    whole = list(range(1, 101)) if ascending else list(range(100, 0, -1))
    assert sorted(_ids(store, ascending=ascending)) == sorted(whole[:30])
    assert len(_ids(store, offset=25, limit=10, ascending=ascending)) == 5
    behind = store.page(_query(offset=30, ascending=ascending))
    assert (behind.ids, behind.total) == ([], 100)
    of_channel = store.page(_query(channel_ids=frozenset({1, 2}), ascending=ascending))
    assert len(of_channel.ids) == 30 < of_channel.total


def test_what_reaches_beyond_a_paging_window_can_be_refused() -> None:
    """A page is refused where its last row could stand behind the window."""
    store = Store(100, rules=Rules(paging_window=30, max_limit=20, beyond_window=422))
    for offset, limit, status in ((10, 20, 200), (10, 250, 200), (11, 20, 422), (11, 19, 200), (30, 1, 422)):
        pairs = [("offset", str(offset)), ("limit", str(limit))]
        assert answer(store, "GET", f"{ROOT}/ip/payments", pairs, None).status == status


def test_the_total_is_the_pages_own() -> None:
    """A total can be the number of rows of the page that it comes with."""
    store = Store(100, rules=Rules(total_count="page"))
    assert [store.page(_query(offset=offset, limit=40)).total for offset in (0, 40, 80, 120)] == [
        40, 40, 20, 0,
    ]  # fmt: skip


def test_the_total_wanders() -> None:
    """A total can be another at each answer: too small and too large, and near the true one."""
    store = Store(100, rules=Rules(total_count="wandering"))
    totals = [store.page(_query()).total for _ in range(60)]
    assert len(set(totals)) > 10
    assert 80 < min(totals) < 100 < max(totals) < 120
    empty = Store(0, rules=Rules(total_count="wandering"))
    assert {empty.page(_query()).total for _ in range(60)} == {0, 1, 2}


@pytest.mark.parametrize("total_count", ["filtered", "store", "wandering"])
def test_the_total_is_capped(total_count: Any) -> None:
    """No total is above its cap, and a smaller one is left alone."""
    store = Store(100, rules=Rules(total_count=total_count, total_cap=50))
    assert store.page(_query()).total == 50
    assert len(_ids(store)) == 100
    assert Store(20, rules=Rules(total_cap=50)).page(_query()).total == 20


@DIRECTIONS
def test_a_list_that_agrees_with_itself(*, ascending: bool) -> None:
    """Lists of the oldest rows only agree in every direction, filter and total; GET knows the others."""
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
    """The list answers as if a parameter that it ignores were not there, and heeds it otherwise."""
    store = Store(60)
    plain = _listed(store)
    assert _listed(store, pair) != plain
    store.rules = Rules(ignores={pair[0]})
    assert _listed(store, pair) == plain


def test_an_ignored_parameter_may_be_wrong() -> None:
    """What is ignored is not refused either."""
    store = Store(60, rules=Rules(ignores=("processingStatus", "limit")))
    assert len(_listed(store, ("processingStatus", "99"), ("limit", "0"))) == 10


@pytest.mark.parametrize(("order", "expected"), [("ASC", [1, 2, 3]), ("DESC", [3, 2, 1])])
def test_an_ignored_order(order: Any, expected: list[int]) -> None:
    """Where orderBy is ignored, the rules say the one order that there is."""
    store = Store(3, rules=Rules(ignores=("orderBy",), ignored_order=order))
    for asked in ("ASC", "DESC"):
        assert _listed(store, ("sortBy", "createdAt"), ("orderBy", asked)) == expected
    assert Rules().ignored_order == "ASC"


def _is_on_channel_2(row: Mapping[str, Any]) -> bool:
    return bool(row["channelId"] == "2")


@pytest.mark.parametrize("by_ids", [True, False])
def test_a_scope_hides_rows(*, by_ids: bool) -> None:
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


def test_a_predicate_sees_changes() -> None:
    """A row that a change takes out of the scope is hidden from then on."""
    store = Store(9, rules=Rules(hidden=lambda row: bool(row["payerName"] == "secret")))
    assert len(_ids(store)) == 9
    store.update(4, payerName="secret")
    assert (_ids(store), _status(store, 4)) == ([1, 2, 3, 5, 6, 7, 8, 9], 404)


def test_a_restored_backup() -> None:
    """Older versions come back, what was deleted too, what was created goes; and twice, if asked twice."""
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


def test_an_id_that_is_given_again() -> None:
    """A payment with the id of one that a restored backup does not have is listed as it is."""
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
    """A rule that the sandbox does not know is refused by its name."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Rules(**wrong)
