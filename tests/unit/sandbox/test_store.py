"""The sandbox's store: its contents, and what its lists show."""

from __future__ import annotations

import json
import time
from itertools import groupby
from types import SimpleNamespace

import attrs
import msgspec
import pytest

from b2b_payments._errors import ConfigurationError
from b2b_payments.sandbox import ListQuery, Rules, Store
from b2b_payments.sandbox._data import CARD, OFFLINE, ORDER

ASCENDING = ListQuery(limit=250, sort_by="createdAt", ascending=True)


def _everything(store: Store) -> str:
    return json.dumps(list(store.all_wire()))


def test_seed() -> None:
    """The same seed generates the same payments, another seed different ones."""
    assert _everything(Store(50, seed=1)) == _everything(Store(50, seed=1)) != _everything(Store(50, seed=2))


def test_start_is_fast() -> None:
    """A store of 10,000 payments is created in well under a second."""
    began = time.perf_counter()
    store = Store(10_000)
    assert time.perf_counter() - began < 1.0
    assert store.payments == len(store) == len(store.ids()) == 10_000


def test_creation_times() -> None:
    """Creation times ascend over two years, and a few are shared by at most three payments."""
    store = Store(5000)
    times = [store.created(payment_id) for payment_id in store.ids()]
    assert times == sorted(times)
    assert 600 < (times[-1] - times[0]) / 86_400 < 800
    runs = [len(list(run)) for _, run in groupby(times)]
    assert max(runs) in {2, 3}
    assert 0.005 < sum(length - 1 for length in runs) / len(times) < 0.04


def test_rows_vary() -> None:
    """The rows have every variant that is known of the service."""
    rows = list(Store(800).all_wire())
    assert {row["moduleName"] for row in rows} == {OFFLINE, ORDER, CARD}
    assert {row["processingStatus"] for row in rows} == {0, 1, 2, 3, 4}
    assert len({row["total"]["code"] for row in rows}) > 4
    assert all(len(row["total"]["value"].partition(".")[2]) == 4 for row in rows)
    assert {type(row.get("externalId", 0)) for row in rows} == {int, str, type(None)}
    names = "".join(row["customerName"] + row["payerName"] for row in rows)
    assert {",", '"', "\n", "ü", "山"} <= set(names)
    raw = [row["moduleData"]["transactions"][0]["rawTransaction"] for row in rows]
    assert {type(one) for one in raw} == {type(None), str, list, dict}
    assert "" in raw
    assert {type(one) for row in rows for one in row["allowedStatuses"]} == {int, str}
    assert {type(fee["amount"]) for row in rows for fee in row["fees"]} == {int, float}
    assert {row["channelId"] for row in rows} == {"1", "2", "3"}


def test_total_is_the_sum_of_the_lines() -> None:
    """A payment's total is the sum of its line items."""
    for row in Store(100).all_wire():
        cents = [int(line["amount"]["value"].replace(".", "")) for line in row["lineItems"]]
        assert int(row["total"]["value"].replace(".", "")) == sum(cents)


def test_single_storefront_rows() -> None:
    """Only a store without multi-storefront has payments without a channel."""
    store = Store(200, channels=(1,), rules=Rules(multi_storefront=False))
    assert {row.get("channelId") for row in store.all_wire()} == {"1", None}
    assert {store.channel(payment_id) for payment_id in store.ids()} == {1, None}
    listed = store.page(ListQuery(limit=250, channel_ids=frozenset({1}))).total
    assert 0 < listed < 200


def test_channels() -> None:
    """Every channel has a unique name and two ids."""
    store = Store(0, channels=range(1, 10))
    channels = store.channel_list()
    assert len({channel["name"] for channel in channels}) == len({channel["id"] for channel in channels}) == 9
    assert [channel["channelId"] for channel in channels] == list(store.channels)
    assert store.channel_name(9) == channels[-1]["name"]


@pytest.mark.parametrize(
    "wrong",
    [{"payments": -1}, {"payments": (2, 1)}, {"payments": "12"}, {"channels": ()}, {"channels": (1, 1)}],
)
def test_wrong_arguments(wrong: dict[str, object]) -> None:
    """Invalid arguments are rejected by name."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Store(**wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_insert_at_the_end() -> None:
    """A new payment is the newest, one second after the clock."""
    store = Store(10)
    before = store.clock
    new = store.insert(payerName="Zoë")
    assert store.ids()[-1] == new == 11
    assert store.created(new) == store.clock == before + 1
    assert store.wire(new)["payerName"] == "Zoë"
    assert store.wire(new)["createdAt"] == store.wire(new)["updatedAt"] == before + 1
    assert {line["paymentId"] for line in store.wire(new)["lineItems"]} == {new}


def test_insert_among_equals() -> None:
    """A payment with a given time is inserted after those of the same second."""
    store = Store(10)
    first = store.ids()[0]
    new = store.insert(created_at=store.created(first))
    at = store.ids().index(new)
    assert store.created(store.ids()[at - 1]) == store.created(new)
    assert store.created(store.ids()[at + 1]) > store.created(new)
    store.delete(new)
    assert new not in store
    assert store.insert() == new + 1


def test_empty_store() -> None:
    """An empty store lists nothing, and accepts payments."""
    store = Store(0)
    assert store.page(ASCENDING).ids == []
    assert store.insert() == 1
    assert store.ids() == [1]


def test_update_changes_updated_at() -> None:
    """An update changes the field and updatedAt, but not the order."""
    store = Store(10)
    ids, before = store.ids(), store.wire(3)
    store.update(3, payerName="X")
    assert store.ids() == ids
    changed = {name for name, value in store.wire(3).items() if before[name] != value}
    assert changed == {"payerName", "updatedAt"}
    assert store.wire(3)["updatedAt"] == store.clock


def test_missing_payment() -> None:
    """All methods raise KeyError for a payment that does not exist."""
    store = Store(3)
    store.delete(2)
    for missing in (0, 2, 4):
        assert missing not in store
        for act in (store.wire, store.created, store.delete, store.update, store.channel):
            with pytest.raises(KeyError):
                act(missing)
    assert "1" not in store
    assert store.ids() == [1, 3]


def test_wire_is_a_copy() -> None:
    """Modifying the result of `wire` does not change the store."""
    store = Store(1)
    store.update(1, payerName="kept")
    store.wire(1)["payerName"] = "lost"
    assert store.wire(1)["payerName"] == "kept"


def test_lists_show_changes() -> None:
    """A changed row is listed as changed, even if it was listed before."""
    store = Store(3)
    assert msgspec.json.decode(store.encoded(2)) == store.wire(2)
    store.update(2, payerName="X")
    assert msgspec.json.decode(store.encoded(2))["payerName"] == "X"
    assert store.encoded(1) is store.encoded(1)


def test_filters_follow_changes() -> None:
    """A selection that was listed before a change is recomputed after it."""
    store = Store(60)
    query = ListQuery(limit=250, processing_status=4, sort_by="updatedAt", ascending=True)
    before = store.page(query).ids
    changed = next(payment_id for payment_id in store.ids() if payment_id not in before)
    store.update(changed, processingStatus=4)
    assert store.page(query).ids == [*before, changed]
    store.delete(before[0])
    new = store.insert(processingStatus=4)
    assert store.page(query).ids == [*before[1:], changed, new]


def test_many_selections() -> None:
    """The store evicts old selections, and its results stay correct."""
    store = Store(40)
    for offset in range(2):
        for invoice in range(1, 45):
            query = ListQuery(offset=offset, limit=250, invoice_id=invoice)
            expected = [
                row["id"]
                for row in store.all_wire()
                if invoice in {line["invoiceId"] for line in row["lineItems"]}
            ]
            assert store.page(query).ids == expected[::-1][offset:]


@pytest.mark.parametrize("sort_by", ["createdAt", "customerId"])
@pytest.mark.parametrize("ascending", [True, False])
def test_shuffled_equals(sort_by: str, *, ascending: bool) -> None:
    """Equal keys come in a different order at each request, and a page has only rows of its position."""
    store = Store(0, rules=Rules(equals="shuffled"))
    for second in (100, 200, 200, 200, 200, 200, 200, 300):
        store.insert(created_at=second, customerId=str(second))
    orders = set()
    for _ in range(50):
        query = ListQuery(offset=2, limit=4, sort_by=sort_by, ascending=ascending)
        page = store.page(query).ids
        assert len(set(page)) == 4
        assert set(page) <= set(range(2, 8))
        orders.add(tuple(page))
    assert len(orders) > 10
    whole = store.page(ListQuery(limit=10, sort_by=sort_by, ascending=ascending)).ids
    assert (whole[0], whole[-1]) == ((1, 8) if ascending else (8, 1))


def test_order_among_equals() -> None:
    """The order among equal keys is reversed with the list, or stays the same, also across pages."""
    reversed_, same = [8, 7, 6, 5, 4, 3, 2, 1], [8, 2, 3, 4, 5, 6, 7, 1]
    for rules, expected in ((Rules(equals="stable"), reversed_), (Rules(equals="one way"), same)):
        store = Store(0, rules=rules)
        for second in (100, 200, 200, 200, 200, 200, 200, 300):
            store.insert(created_at=second)
        pages = [
            store.page(ListQuery(offset=offset, limit=3, sort_by="createdAt", ascending=False)).ids
            for offset in (0, 3, 6)
        ]
        assert [one for page in pages for one in page] == expected
        ascending = ListQuery(limit=8, sort_by="createdAt", ascending=True)
        assert store.page(ascending).ids == list(range(1, 9))


def test_shuffled_does_not_affect_ids() -> None:
    """The service's own order, by id, has no equal keys."""
    store = Store(20, rules=Rules(equals="shuffled"))
    assert store.page(ListQuery(limit=20)).ids == list(range(20, 0, -1))


def test_list_lag_of_each_write() -> None:
    """With a lag for each write, lists show writes out of order, but not those of the same payment."""
    lags = iter([10.0, 1.0, 30.0, 2.0])
    watch = SimpleNamespace(now=0.0)
    store = Store(2, rules=Rules(list_lag=lambda: next(lags)), lag_time=lambda: float(watch.now))
    late = store.insert(payerName="first")
    soon = store.insert(created_at=store.clock)
    store.update(1, payerName="first")
    store.update(late, payerName="second")
    shown = []
    for watch.now in (0, 2, 10, 30):
        ids = store.page(ListQuery(limit=10, sort_by="createdAt", ascending=True)).ids
        names = [msgspec.json.decode(store.encoded(one))["payerName"] for one in ids if one in {1, late}]
        shown.append((ids, names[1:], names[0] == "first"))
    assert shown == [
        ([1, 2], [], False),
        ([1, 2, soon], [], False),
        ([1, 2, late, soon], ["second"], False),
        ([1, 2, late, soon], ["second"], True),
    ]


def test_list_lag() -> None:
    """Lists show a write after the lag, not before; reading by id shows it at once."""
    watch = SimpleNamespace(now=0.0)
    store = Store(5, rules=Rules(list_lag=10.0), lag_time=lambda: float(watch.now))
    query = attrs.evolve(ASCENDING, channel_ids=frozenset(store.channels))
    assert store.page(query).total == 5
    new = store.insert()
    store.delete(1)
    store.update(2, payerName="X")
    store.update(new, payerName="Y")
    assert store.ids() == [2, 3, 4, 5, new]
    for selection in (query, ASCENDING):
        assert store.page(selection).ids == [1, 2, 3, 4, 5]
    assert msgspec.json.decode(store.encoded(2))["payerName"] != "X"
    assert store.wire(2)["payerName"] == "X"
    watch.now = 9.9
    store.delete(3)
    assert store.page(query).ids == [1, 2, 3, 4, 5]
    watch.now = 10.0
    assert store.page(query).ids == [2, 3, 4, 5, new]
    assert msgspec.json.decode(store.encoded(2))["payerName"] == "X"
    watch.now = 19.9
    assert store.page(query).ids == [2, 4, 5, new]


def test_lag_of_a_payment_soon_deleted() -> None:
    """A payment that is created and deleted within the lag appears in lists, and then disappears."""
    watch = SimpleNamespace(now=0.0)
    store = Store(0, rules=Rules(list_lag=10.0), lag_time=lambda: float(watch.now))
    new = store.insert()
    watch.now = 5
    store.update(new, payerName="X")
    store.delete(new)
    watch.now = 10
    assert store.page(ASCENDING).ids == [new]
    watch.now = 15
    assert store.page(ASCENDING).ids == []


def test_short_pages() -> None:
    """A page has fewer rows than it could, randomly or by a function."""
    often = Store(300, rules=Rules(short_pages=0.5))
    sizes = [len(often.page(ASCENDING).ids) for _ in range(60)]
    assert 10 < sizes.count(250) < 50
    assert min(sizes) >= 1
    never_more = Store(300, rules=Rules(short_pages=lambda limit: limit * 2))
    assert len(never_more.page(ASCENDING).ids) == 250
    none = Store(300, rules=Rules(short_pages=lambda _: 0))
    assert none.page(ASCENDING).ids == []


def test_sparse_lists() -> None:
    """Lists omit some optional fields in some rows; reading by id returns them all."""
    store = Store(200, rules=Rules(sparse_lists=True))
    optional = {"fees", "details", "moduleData", "allowedOperations", "allowedStatuses"}
    absent = set()
    for payment_id in store.ids():
        listed, whole = msgspec.json.decode(store.encoded(payment_id)), store.wire(payment_id)
        absent |= whole.keys() - listed.keys()
        assert whole["lineItems"][0].keys() - listed["lineItems"][0].keys() <= {"amount"}
    assert absent == optional


def test_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of cached rows does not grow with the store."""
    monkeypatch.setattr("b2b_payments.sandbox._store._CACHED_ROWS", 10)
    store = Store(100)
    for payment_id in store.ids():
        store.encoded(payment_id)
        assert len(store._encoded) <= 10


@pytest.mark.parametrize(
    "wrong",
    [
        {"window": "tumbling"},
        {"requests": 0},
        {"refusal_headers": ("retry",)},
        {"channel_encoding": "json"},
        {"list_lag": -1},
        {"echo": "none"},
        {"over_limit": "ignore"},
        {"success_status": 300},
        {"success_status": {"POST": 404}},
        {"success_status": {"PATCH": 200}},
        {"without_body": ("PATCH",)},
        {"other_channel_encodings": 404},
        {"unknown_channels": 500},
        {"payment_channels": "number"},
    ],
)
def test_unknown_rules(wrong: dict[str, object]) -> None:
    """An unknown value is rejected with the name of its rule."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Rules(**wrong)  # type: ignore[arg-type]  # wrong on purpose
