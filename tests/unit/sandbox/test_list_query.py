"""How the sandbox parses the query of a list."""

from __future__ import annotations

from typing import Any

import pytest

from b2b_payments.sandbox import ListQuery, Rules, Store
from b2b_payments.sandbox._listing import SORT_KEYS, InvalidFieldsError
from b2b_payments.sandbox._table import KEYS

ALL = ("repeat", "brackets", "brackets-comma", "comma")


def _parse(*pairs: tuple[str, str], encodings: tuple[str, ...] = ALL) -> ListQuery:
    return ListQuery.parse(pairs, encodings)


def _listed(store: Store, **about: Any) -> list[int]:
    return store.page(ListQuery(limit=250, sort_by="createdAt", ascending=True, **about)).ids


def test_defaults() -> None:
    """Without parameters, the list returns ten rows, the newest ids first."""
    query = _parse(("orderBy", ""), ("nobody", "knows"))
    assert query == ListQuery(offset=0, limit=10, sort_by=None, ascending=False)
    assert Store(30).page(query).ids == list(range(30, 20, -1))


def test_every_parameter() -> None:
    """Every documented parameter is parsed."""
    query = _parse(
        ("offset", "20"),
        ("limit", "50"),
        ("orderBy", "ASC"),
        ("sortBy", "totalAmount"),
        ("searchBy", "id"),
        ("q", "7"),
        ("customerName", "Acme"),
        ("invoiceId", "13"),
        ("processingStatus", "0"),
        ("channelIds", "2"),
    )
    assert query == ListQuery(
        offset=20,
        limit=50,
        sort_by="totalAmount",
        ascending=True,
        search_by="id",
        q="7",
        customer_name="Acme",
        invoice_id=13,
        processing_status=0,
        channel_ids=frozenset({2}),
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("offset", "-1"),
        ("offset", "x"),
        ("limit", "0"),
        ("limit", "1.5"),
        ("sortBy", "id"),
        ("orderBy", "asc"),
        ("searchBy", "payerName"),
        ("processingStatus", "5"),
        ("invoiceId", "INV"),
        ("channelIds", "one"),
        ("channelIds[]", "1,"),
        ("limit", "9" * 30),
    ],
)
def test_wrong_values(name: str, value: str) -> None:
    """A value that the service does not accept is reported by name."""
    with pytest.raises(InvalidFieldsError) as caught:
        _parse((name, value))
    assert list(caught.value.errors) == [name.removesuffix("[]")]


@pytest.mark.parametrize(
    ("way", "pairs"),
    [
        ("repeat", [("channelIds", "1"), ("channelIds", "2")]),
        ("comma", [("channelIds", "1,2")]),
        ("brackets", [("channelIds[]", "1"), ("channelIds[]", "2")]),
        ("brackets-comma", [("channelIds[]", "1,2")]),
    ],
)
def test_channel_encodings(way: str, pairs: list[tuple[str, str]]) -> None:
    """Each encoding of channel ids is read if the rules name it, and ignored otherwise."""
    others = tuple(other for other in ALL if other != way)
    assert _parse(*pairs, encodings=(way,)).channel_ids == frozenset({1, 2})
    assert _parse(*pairs, encodings=others).channel_ids is None


@pytest.mark.parametrize(
    ("name", "ways"),
    [("channelIds", ("repeat", "comma")), ("channelIds[]", ("brackets", "brackets-comma"))],
)
def test_one_channel(name: str, ways: tuple[str, ...]) -> None:
    """A single id is written the same in two encodings, so both accept it."""
    for way in ALL:
        assert (_parse((name, "2"), encodings=(way,)).channel_ids == frozenset({2})) is (way in ways)


def test_empty_channel_list() -> None:
    """An empty value filters nothing."""
    assert _parse(("channelIds", "")).channel_ids is None


def test_search_by_words() -> None:
    """A search finds ids that contain the text; by words, those that share a word, ignoring case."""
    store = Store(0)
    a1, a10, other, inv, _ = (store.insert(externalId=one) for one in ("A-1", "A-10", "b 1", "inv-A", None))
    about = {"search_by": "externalId", "q": "A-1"}
    assert _listed(store, **about) == [a1, a10]
    assert _listed(store, **about, by_words=True) == [a1, a10, other, inv]
    assert _listed(store, q="B", by_words=True) == [other]


@pytest.mark.parametrize("sort_by", SORT_KEYS)
def test_sorting(sort_by: str) -> None:
    """Every sort key works in both directions, and compares numbers as numbers."""
    store = Store(120)
    for ascending in (True, False):
        query = ListQuery(limit=250, sort_by=sort_by, ascending=ascending)
        keys = [KEYS[sort_by](store.wire(payment_id)) for payment_id in store.page(query).ids]
        assert keys == sorted(keys, reverse=not ascending)
        assert len(keys) == 120


@pytest.mark.parametrize("ascending", [True, False])
def test_pages_make_the_list(*, ascending: bool) -> None:
    """Pages of any size together make the whole list."""
    store = Store(53)
    whole = store.page(ListQuery(limit=250, sort_by="createdAt", ascending=ascending)).ids
    pages = [
        store.page(ListQuery(offset=offset, limit=7, sort_by="createdAt", ascending=ascending)).ids
        for offset in range(0, 70, 7)
    ]
    assert [one for page in pages for one in page] == whole
    assert whole == (store.ids() if ascending else store.ids()[::-1])


def test_filters() -> None:
    """Each filter selects the matching rows, and combines with the others."""
    store = Store(240)
    rows = list(store.all_wire())
    assert _listed(store, processing_status=0) == [row["id"] for row in rows if row["processingStatus"] == 0]
    assert _listed(store, channel_ids=frozenset({2})) == [
        row["id"] for row in rows if row["channelId"] == "2"
    ]
    acme = [row["id"] for row in rows if "Acme" in row["customerName"]]
    assert _listed(store, customer_name="acme") == acme != []
    both = _listed(store, customer_name="acme", channel_ids=frozenset({1, 3}))
    assert both == [one for one in acme if store.wire(one)["channelId"] != "2"] != []
    invoices = _listed(store, invoice_id=100)
    assert 100 in {line["invoiceId"] for one in invoices for line in store.wire(one)["lineItems"]}


def test_search() -> None:
    """A search is exact for ids, by substring for other fields, and over four fields without `searchBy`."""
    store = Store(120)
    assert _listed(store, search_by="id", q="11") == [11]
    customer = store.wire(5)["customerId"]
    assert 5 in _listed(store, search_by="customerId", q=customer)
    assert _listed(store, search_by="customerId", q=customer[:-1]) == []
    new = store.insert(externalId="a needle", externalCustomerId="")
    assert _listed(store, search_by="externalId", q="needle") == _listed(store, q="needle") == [new]
    assert _listed(store, search_by="externalCustomerId", q="needle") == []
    assert len(_listed(store, search_by="externalId")) == 121
    assert set(_listed(store, q="11")) >= {11, 110, 111}


def test_total_of_the_store() -> None:
    """The total can ignore the filters."""
    store = Store(50, rules=Rules(total_count="store"))
    page = store.page(ListQuery(processing_status=0))
    assert page.total == 50 > len(page.ids)
