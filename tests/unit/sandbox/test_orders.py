"""Which requests a fault affects, and how much a drifting store changes."""

from __future__ import annotations

import pytest

from b2b_payments._errors import ConfigurationError
from b2b_payments.sandbox import Drift, Fault, Store
from b2b_payments.sandbox._faults import Orders
from b2b_payments.sandbox._service import ROOT


def test_share() -> None:
    """A share of the requests is affected, the same ones for the same seed."""
    drawn = []
    for _ in range(2):
        orders = Orders(seed=3)
        orders.add(Fault.HANG)
        drawn.append([orders.draw("GET", "/") for _ in range(3000)])
    assert drawn[0] == drawn[1]
    assert 900 < drawn[0].count(Fault.HANG) < 1100


def test_times() -> None:
    """Exactly the next `times` requests are affected."""
    orders = Orders(seed=1)
    orders.add(Fault.EMPTY, times=2)
    orders.add(Fault.NAN, share=1)
    assert [orders.draw("GET", "/") for _ in range(3)] == [Fault.EMPTY, Fault.EMPTY, Fault.NAN]
    orders.clear()
    assert orders.draw("GET", "/") is None


def test_methods_and_path() -> None:
    """Only matching requests are affected."""
    orders = Orders(seed=1)
    orders.add(Fault.EMPTY, share=1, methods=("put", "DELETE"), path=r"/payments/\d+$")
    orders.add(Fault.NAN, share=1, methods="POST")
    assert orders.draw("DELETE", "/ip/payments/7") is Fault.EMPTY
    assert orders.draw("DELETE", "/ip/payments/7/operations") is None
    assert orders.draw("GET", "/ip/payments/7") is None
    assert orders.draw("POST", "/ip/payments/offline") is Fault.NAN


def test_empty_list_affects_only_lists() -> None:
    """The fault of an empty list affects only list requests, and only those count."""
    orders = Orders(seed=1)
    orders.add(Fault.EMPTY_LIST, times=2)
    payments = f"{ROOT}/ip/payments"
    assert orders.draw("GET", f"{payments}/7") is orders.draw("POST", payments) is None
    met = [orders.draw("GET", payments) for _ in range(3)]
    assert met == [Fault.EMPTY_LIST, Fault.EMPTY_LIST, None]


@pytest.mark.parametrize("wrong", [{"share": 1.1}, {"share": -1}, {"times": 0}])
def test_wrong_orders(wrong: dict[str, float]) -> None:
    """An invalid order is rejected with the name of its argument."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Orders(seed=1).add(Fault.HANG, **wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_drift_records_changes() -> None:
    """The recorded changes match the store, at the requested rate."""
    store = Store(500)
    before = set(store.ids())
    rows = {payment_id: store.wire(payment_id) for payment_id in before}
    drift = Drift(5, rate=2.0)
    for _ in range(200):
        drift(store)
    after = set(store.ids())
    assert after == (before | drift.inserted) - drift.deleted
    assert drift.lasting(before) == before & after
    assert 300 < len(drift.inserted) + len(drift.deleted) + len(drift.updated) < 500
    changed = {one for one in before & after if store.wire(one) != rows[one]}
    assert changed == drift.updated & before & after


def test_drift_without_rate() -> None:
    """A drift of rate 0 changes nothing, and an empty store has nothing to delete or update."""
    store = Store(5)
    Drift(1, rate=0)(store)
    assert store.ids() == [1, 2, 3, 4, 5]
    empty = Store(0)
    Drift(1, rate=20, insert=0)(empty)
    assert empty.ids() == []


def test_drift_of_one_kind() -> None:
    """The kinds of change are weighted."""
    drift = Drift(1, rate=5, insert=0, delete=0)
    drift(Store(50))
    assert drift.updated
    assert not drift.inserted | drift.deleted


def test_drift_makes_equals() -> None:
    """Some inserts share their second with another payment."""
    store, drift = Store(0), Drift(1, rate=40, delete=0, update=0)
    drift(store)
    times = [store.created(payment_id) for payment_id in store.ids()]
    assert len(set(times)) < len(times)
