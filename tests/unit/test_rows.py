"""Payments read from a page's bytes equal those read from decoded objects, whatever the page contains."""

from __future__ import annotations

import copy
import gc
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from b2b_payments._converter import (
    decoded_page,
    row_types,
    structure_payment,
    structure_rows,
    structuring,
    to_wire,
)
from b2b_payments._converter.rows import RowReader
from b2b_payments._errors import ResponseDecodeError
from b2b_payments._models import Payment
from b2b_payments._protocol.answer import Answer
from b2b_payments._protocol.json import MAX_LEVELS, decode
from b2b_payments._protocol.listing import Head, Listing, read_listing
from b2b_payments._protocol.request import list_payments
from tests.support.examples import LISTED_PAYMENT


def changed(**fields: Any) -> dict[str, Any]:
    """Return the listed example with other fields."""
    return copy.deepcopy({**LISTED_PAYMENT, **fields})


def without(*names: str) -> dict[str, Any]:
    """Return the listed example without some fields."""
    return {name: value for name, value in changed().items() if name not in names}


def listing(body: bytes) -> Listing:
    """Return a page with this body."""
    heads = [Head(id=row.get("id")) for row in json.loads(body.decode(errors="replace"))["data"]]
    return Listing(heads, body, 0, None, None)


def page(rows: Sequence[object]) -> Listing:
    """Return a page of rows."""
    return listing(json.dumps({"code": 200, "data": rows}).encode())


def read(rows: Sequence[object]) -> list[Payment]:
    """Read a page of rows."""
    return list(structure_rows(page(rows), range(len(rows))))


def fits(reader: RowReader, rows: Sequence[object]) -> list[bool]:
    """Return, for each row, whether it fits a row type."""
    misfits: list[bytes] = []

    def read_alone(row: bytes | msgspec.Raw) -> Payment:
        misfits.append(bytes(row))
        return structure_payment(LISTED_PAYMENT)

    payments = list(reader.read(page(rows), range(len(rows)), read_alone))
    assert len(payments) == len(rows)
    return [json.dumps(row).encode() not in misfits for row in rows]


USUAL = [
    changed(),
    changed(channelId="7", channelName="North"),
    changed(allowedStatuses=["1", "2"], allowedOperations=[]),
    changed(allowedStatuses="", allowedOperations=None),
    changed(id="70", createdAt="1700000000", processingStatus="3"),
    changed(processingStatus=77, allowedStatuses=[77]),
    changed(externalId=None, externalCustomerId="", payerName=None),
    changed(bcId=5, customerBcId=None, bcGroupName=""),
    changed(details={"deep": [{"er": [1.5, 0.1, None]}]}, moduleData={"transactions": [{"a": {"b": []}}]}),
    changed(details=None, moduleData="", fees=None, lineItems=None),
    changed(details=[], moduleData=[], fees={}, lineItems={}, allowedStatuses={}, allowedOperations={}),
    changed(lineItems="", fees=""),
    changed(fees=[1.5, {"type": "a"}, 2], lineItems=[{"amount": []}, {"amount": ""}]),
    changed(customerId=7, payerCustomerId=8, channelId=9, id="71"),
    changed(id=70.0, updatedAt=1618800393.25, customerId=95075.0, processingStatus=3.0, appliedStatus=1.0),
    changed(channelId=7.0, payerName=0.5, lineItems=[{"invoiceId": 12.0, "invoiceNumber": 1e22}]),
    changed(total={"code": "USD", "value": "30", "tax": [1]}),
    changed(total={"code": "USD", "value": 30.25}),
    changed(lineItems=[{}, {"invoiceId": 1, "amount": None}, {"paymentId": "7", "x y": {"z": 1}}]),
    changed(fees=[{"type": "a", "amount": 1.25, "note": None}, {"amount": "2.5"}]),
    changed(fees=["1.50", 2, ""]),
    {name: value for name, value in changed().items() if name not in {"details", "fees", "moduleData"}},
    {
        name: value
        for name, value in changed().items()
        if name not in {"channelId", "externalId", "storeHash"}
    },
    changed(**{"class": 1, "foo-bar": [1], "f0": 2, "extra0": 3, "id2": 4, "ключ": 5}),
    changed(**{"Größe\u00a0(cm)": 1, "\u200bname": {"a": [{"b": 1.5}]}, "\x7f": [None], "\u2028": "x"}),
]


def test_pages_are_read_like_objects() -> None:
    """A row in any tolerated format is read like its object, alone and in a page of all formats."""
    expected = [structure_payment(row) for row in USUAL]
    assert read(USUAL) == expected
    for row, payment in zip(USUAL, expected, strict=True):
        [alone] = read([row])
        assert alone == payment
        assert to_wire(alone) == to_wire(payment) == row
        assert alone.extra == payment.extra


def test_tolerated_formats_fit_row_types() -> None:
    """Rows in all tolerated formats fit a row type, including unknown names at any level."""
    assert all(fits(RowReader(), USUAL))


@pytest.mark.parametrize(
    "row",
    [
        changed(lineItems={"0": {}}),
        changed(lineItems=[7]),
        changed(lineItems=[[{}]]),
        changed(total="30 USD"),
        changed(total=[]),
        changed(createdAt="yesterday"),
        without("total"),
    ],
)
def test_an_unreadable_row_raises_after_the_rows_before_it(row: dict[str, Any]) -> None:
    """Rows before a broken one are read. Its error names the payment, and is that of reading an object."""
    with pytest.raises(ResponseDecodeError) as from_object:
        structure_payment(row, "payment 70: $")
    payments = structure_rows(page([changed(id=1), changed(id=2), row | {"id": 70}]), [0, 1, 2])
    assert [next(payments).id, next(payments).id] == [1, 2]
    with pytest.raises(ResponseDecodeError) as from_page:
        next(payments)
    assert (str(from_page.value), from_page.value.paths) == (str(from_object.value), from_object.value.paths)


def decoded_on_arrival(rows: Sequence[object]) -> Listing:
    """Return a page that was decoded when it arrived."""
    answer = Answer(200, {}, json.dumps({"code": 200, "data": rows}).encode())
    return read_listing(
        list_payments(()), answer, "", offset=0, decoded=lambda body: decoded_page(body, True)
    )


@pytest.mark.parametrize("row", USUAL)
def test_a_page_may_be_decoded_on_arrival(row: dict[str, Any]) -> None:
    """Rows decoded on arrival have the same heads and payments as a page that is decoded later."""
    early, late = decoded_on_arrival([changed(), row]), page([changed(), row])
    assert [str(head.id) for head in early.heads] == [str(head.id) for head in late.heads]
    payments = list(structure_rows(early, [0, 1]))
    assert payments == list(structure_rows(late, [0, 1]))
    assert payments == list(structure_rows(early, [0, 1]))  # from its bytes: its decoded rows are released


@pytest.mark.parametrize("value", ["1_000", "NaN", "\u0661", " 7"])
def test_amounts_are_checked_after_odd_line_items(value: str) -> None:
    """An amount that is no plain number is refused, also once pages with odd line items were read."""
    reader = RowReader()
    assert fits(reader, [changed(lineItems=[{"amount": []}]), changed(lineItems={}), changed()]) == [True] * 3
    item = {**LISTED_PAYMENT["lineItems"][0], "amount": {"code": "USD", "value": value}}
    assert fits(reader, [changed(lineItems=[item])]) == [False]


def test_a_usual_page_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of a page that is decoded on arrival also serve as its heads."""
    monkeypatch.setattr(structuring, "_row_reader", RowReader())
    decoded_on_arrival([changed()])  # the schema gets the undocumented names of the example
    assert not isinstance(decoded_on_arrival([changed()]).heads[0], Head)


@pytest.mark.parametrize("name", ["moduleData", "details", "newName", "lineItems"])
def test_too_deep_nesting_is_refused_in_an_unmeasured_page(name: str) -> None:
    """A page decoded on arrival is not measured, but data nested too deeply in it is still refused."""
    deep: Any = 1
    for _ in range(MAX_LEVELS + 10):
        deep = {"a": [deep]}
    value: Any = [{"new": deep}] if name == "lineItems" else deep
    with pytest.raises(ResponseDecodeError, match="nested too deeply"):
        list(structure_rows(decoded_on_arrival([changed(), changed(**{name: value})]), [0, 1]))


@pytest.mark.parametrize(
    ("place", "level"), [("details", 3), ("newName", 3), ("total", 4), ("lineItems", 5), ("amount", 6)]
)
def test_the_limit_of_levels_is_the_same_everywhere(place: str, level: int) -> None:
    """A hundred levels are read and one more is refused, whether rows are decoded on arrival or later."""
    for levels in (MAX_LEVELS, MAX_LEVELS + 1):
        value: Any = 1
        for _ in range(levels - level - (place == "details")):
            value = [value]
        item: dict[str, Any] = changed()["lineItems"][0]
        row = {
            "details": {"details": {"a": value}},
            "newName": {"newName": value},
            "total": {"total": {**changed()["total"], "new": value}},
            "lineItems": {"lineItems": [{**item, "new": value}]},
            "amount": {"lineItems": [{**item, "amount": {**item["amount"], "new": value}}]},
        }[place]
        for listing_of in (decoded_on_arrival, page):
            if levels > MAX_LEVELS:
                with pytest.raises(ResponseDecodeError, match="nested too deeply"):
                    list(structure_rows(listing_of([changed(), changed(**row)]), [0, 1]))
            else:
                assert len(list(structure_rows(listing_of([changed(), changed(**row)]), [0, 1]))) == 2


def test_reading_a_page_leaves_no_garbage() -> None:
    """Reading a page leaves no reference cycles for the garbage collector."""

    def garbage() -> int:
        gc.collect()
        list(structure_rows(decoded_on_arrival([changed()]), [0]))
        return gc.collect()

    garbage()
    gc.disable()
    try:
        # Threads of other tests may leave garbage at times; reading would leave it each time.
        assert min(garbage() for _ in range(3)) == 0
    finally:
        gc.enable()


def test_numbers_are_exact() -> None:
    """A number that no float holds, and an integer of more than 64 bits, are read exactly."""
    body = json.dumps({"code": 200, "data": [changed(details={}, bcId=0)]})
    body = body.replace('"details": {}', '"details": {"a": 0.1000000000000000000001, "b": 0.25}')
    body = body.replace('"bcId": 0', '"bcId": 123456789012345678901234567890')
    [payment] = structure_rows(listing(body.encode()), [0])
    assert payment.details == {"a": Decimal("0.1000000000000000000001"), "b": 0.25}
    assert payment.extra["bcId"] == 123456789012345678901234567890
    assert payment == structure_payment(decode(body.encode())["data"][0])


def test_invalid_utf8_fails_in_its_own_row() -> None:
    """A row that is not UTF-8 fails alone: the row before it is read."""
    body = page([changed(id=1), changed(id=2, payerName="~")]).body.replace(b"~", b"\xff")
    payments = structure_rows(listing(body), [0, 1])
    assert next(payments).id == 1
    with pytest.raises(ResponseDecodeError, match=r"payment 2: .*UTF-8"):
        next(payments)


@pytest.mark.slow
def test_the_schema_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that invents names without end is read correctly, and the schema stays within its limit.

    At the limit, inference starts over.
    """
    monkeypatch.setattr(row_types, "_MAX_UNKNOWN_NAMES", 23)  # the example itself has three
    reader = RowReader()
    for number in range(25):
        row = changed(**{f"new{number}": number})
        assert fits(reader, [row]) == [True]
        [payment] = read([row])
        assert payment.extra[f"new{number}"] == number
        assert sum(map(len, reader.pages.types.schema.unknown.values())) <= 23
    many = [changed(**{f"more{number}": number}) for number in range(40)]
    assert [payment.extra[f"more{number}"] for number, payment in enumerate(read(many))] == list(range(40))


@pytest.mark.parametrize(
    "name", ['quo"te', "back\\slash", "line\nbreak", "", "x" * 101, "x`$.data[", "x` - at `$.id"]
)
def test_a_name_that_no_struct_field_can_have_is_kept(name: str) -> None:
    """Names that need escapes in JSON, or are very long, fit no row type, but are kept in `extra`."""
    [payment] = read([changed(**{name: [1]})])
    assert payment.extra[name] == [1]
    assert to_wire(payment) == changed(**{name: [1]})


@pytest.mark.parametrize("step", [0, 500])
def test_no_cells_are_probed_if_there_are_too_many_names(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """If rows have more unknown names than the limit, the cells of unknown fields are not probed at all."""
    probed = 0
    probes_of = row_types._probes_of

    def counted(field: Any) -> Any:
        nonlocal probed
        probed += field is None
        return probes_of(field)

    monkeypatch.setattr(row_types, "_probes_of", counted)
    rows = [changed(id=row, **{f"n{step * row + name}": name for name in range(500)}) for row in range(30)]
    assert not any(fits(RowReader(), rows))
    assert probed == 0
    assert [to_wire(payment) for payment in read(rows)] == rows


@pytest.fixture
def inferred(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return the bodies from which a schema was inferred."""
    bodies = list[bytes]()
    with_page = row_types.InferredSchema.with_page

    def counted(schema: row_types.InferredSchema, body: bytes) -> row_types.InferredSchema:
        bodies.append(body)
        return with_page(schema, body)

    monkeypatch.setattr(row_types.InferredSchema, "with_page", counted)
    return bodies


@pytest.mark.parametrize("names", [lambda _: {'quo"te'}, lambda row: {f"n{row}a", f"n{row}b", f"n{row}c"}])
def test_inferences_per_page_are_limited(inferred: list[bytes], names: Callable[[int], set[str]]) -> None:
    """Inferences that change nothing count too: a page of misfits does not cost an inference per row."""
    reader = RowReader()
    for _ in range(2):
        inferred.clear()
        assert not all(fits(reader, [changed(**dict.fromkeys(names(row), 1)) for row in range(250)]))
        assert len(inferred) == 2


def test_a_new_name_in_each_row_takes_one_inference(inferred: list[bytes]) -> None:
    """A full page in which each row has an unknown name of its own is decoded at once, page after page."""
    reader = RowReader()
    for start in range(0, 1_000, 250):
        assert all(fits(reader, [changed(**{f"n{start + row}": 1}) for row in range(250)]))
    assert len(inferred) == 4


@pytest.mark.parametrize("is_awaited", [True, False])
@pytest.mark.parametrize(
    "fields", [{"total": "30 USD"}, {"payerName": "~"}, {"details": {"a": json.loads("[" * 150 + "]" * 150)}}]
)
def test_the_traceback_of_an_unreadable_row_has_no_data(fields: dict[str, Any], is_awaited: bool) -> None:
    """No frame of this library in the traceback has the row among its local variables."""
    body = page([changed(**{"customerName": "Secret", **fields})]).body.replace(b"~", b"\xff")
    answer = Answer(200, {}, body)

    def read_page() -> list[Payment]:
        listing = read_listing(
            list_payments(()), answer, "", offset=0, decoded=lambda body: decoded_page(body, is_awaited)
        )
        return list(structure_rows(listing, [0]))

    with pytest.raises(ResponseDecodeError) as caught:
        read_page()
    frames = [entry.frame for entry in caught.traceback if "b2b_payments" in str(entry.path)]
    values = [
        value for frame in frames if frame.f_globals is not globals() for value in frame.f_locals.values()
    ]
    texts = [bytes(one) if isinstance(one, bytes | msgspec.Raw) else repr(one).encode() for one in values]
    assert frames
    assert not [text for text in texts if b"Secret" in text]


def test_threads_infer_concurrently() -> None:
    """Threads that share a reader, and meet different unknown names at the same time, all read correctly."""
    reader = RowReader()

    def work(worker: int) -> bool:
        rows = [changed(**{f"w{worker}n{number}": number}) for number in range(5)]
        expected = [structure_payment(row) for row in rows]
        pages = [page([row]) for row in rows[1:]]
        read = [next(reader.read(one, [0], lambda *_: expected[0])) for one in pages]
        return read == expected[1:]

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
