"""Payments straight from a page's bytes: the same as by way of dicts, whatever stands in the page."""

from __future__ import annotations

import copy
import gc
import json
from collections.abc import Sequence
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
from b2b_payments._protocol.json import MOST_LEVELS, decode
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
    """Tell of each row whether the fast way reads it."""
    unfit: list[int] = []

    def otherwise(place: int, _: object) -> Payment:
        unfit.append(place)
        return structure_payment(LISTED_PAYMENT)

    made = list(reader.read(page(rows), range(len(rows)), otherwise))
    assert len(made) == len(rows)
    return [place not in unfit for place in range(len(rows))]


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
    changed(total={"code": "USD", "value": "30", "tax": [1]}),
    changed(total={"code": "USD", "value": 30.25}),
    changed(lineItems=[{}, {"invoiceId": 1, "amount": None}, {"paymentId": "7", "x y": {"z": 1}}]),
    changed(fees=[{"type": "a", "amount": 1.25, "note": None}, {"amount": "2.5"}]),
    {name: value for name, value in changed().items() if name not in {"details", "fees", "moduleData"}},
    {
        name: value
        for name, value in changed().items()
        if name not in {"channelId", "externalId", "storeHash"}
    },
    changed(**{"class": 1, "foo-bar": [1], "f0": 2, "extra0": 3, "id2": 4, "ключ": 5}),
]


def test_pages_are_read_as_dicts_are() -> None:
    """Every tolerated spelling, alone and all in one page, gives the same payment as by way of a dict."""
    expected = [structure_payment(row) for row in USUAL]
    assert read(USUAL) == expected
    for row, payment in zip(USUAL, expected, strict=True):
        [alone] = read([row])
        assert alone == payment
        assert to_wire(alone) == to_wire(payment) == row
        assert alone.extra == payment.extra


def test_the_usual_rows_take_the_fast_way() -> None:
    """No row of a known spelling needs the slow way, unknown names at any level included."""
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
def test_a_row_that_cannot_be_read_is_named_where_it_stands(row: dict[str, Any]) -> None:
    """Rows before a broken one are given; the error names its payment and says what a dict's reader says."""
    with pytest.raises(ResponseDecodeError) as slow:
        structure_payment(row, "payment 70: $")
    payments = structure_rows(page([changed(id=1), changed(id=2), row | {"id": 70}]), [0, 1, 2])
    assert [next(payments).id, next(payments).id] == [1, 2]
    with pytest.raises(ResponseDecodeError) as fast:
        next(payments)
    assert (str(fast.value), fast.value.paths) == (str(slow.value), slow.value.paths)


def arrived(rows: Sequence[object]) -> Listing:
    """Return a page that is decoded as it arrives."""
    answer = Answer(200, {}, json.dumps({"code": 200, "data": rows}).encode())
    return read_listing(
        list_payments(()), answer, "", offset=0, decoded=lambda body: decoded_page(body, True)
    )


@pytest.mark.parametrize("row", USUAL)
def test_a_page_may_be_decoded_as_it_arrives(row: dict[str, Any]) -> None:
    """Rows that are decoded as a page arrives become the same payments, and say the same of themselves."""
    came, kept = arrived([changed(), row]), page([changed(), row])
    assert [str(head.id) for head in came.heads] == [str(head.id) for head in kept.heads]
    payments = list(structure_rows(came, [0, 1]))
    assert payments == list(structure_rows(kept, [0, 1]))
    assert payments == list(structure_rows(came, [0, 1]))  # from its bytes, now that its rows went with them


def test_the_usual_page_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of a page that is decoded as it arrives are its heads as well."""
    monkeypatch.setattr(structuring, "_row_reader", RowReader())
    arrived([changed()])  # teaches the names that the example has beyond the documented ones
    assert not isinstance(arrived([changed()]).heads[0], Head)


@pytest.mark.parametrize("name", ["moduleData", "details", "newName", "lineItems"])
def test_a_page_that_arrives_too_deep_is_refused(name: str) -> None:
    """What is nested too deeply is refused in a page that nobody measured, and the row before it is given."""
    deep: Any = 1
    for _ in range(MOST_LEVELS + 10):
        deep = {"a": [deep]}
    value: Any = [{"new": deep}] if name == "lineItems" else deep
    with pytest.raises(ResponseDecodeError, match="nested too deeply"):
        list(structure_rows(arrived([changed(), changed(**{name: value})]), [0, 1]))


@pytest.mark.parametrize(
    ("place", "level"), [("details", 3), ("newName", 3), ("total", 4), ("lineItems", 5), ("amount", 6)]
)
def test_a_page_may_be_as_deep_wherever_that_is(place: str, level: int) -> None:
    """A hundred levels are read and one more is refused, whether rows are decoded as they arrive or not."""
    for levels in (MOST_LEVELS, MOST_LEVELS + 1):
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
        for make in (arrived, page):
            if levels > MOST_LEVELS:
                with pytest.raises(ResponseDecodeError, match="nested too deeply"):
                    list(structure_rows(make([changed(), changed(**row)]), [0, 1]))
            else:
                assert len(list(structure_rows(make([changed(), changed(**row)]), [0, 1]))) == 2


def test_a_page_is_gone_once_it_was_read() -> None:
    """Reading a page leaves nothing that only the garbage collector would find."""

    def left() -> int:
        gc.collect()
        list(structure_rows(arrived([changed()]), [0]))
        return gc.collect()

    left()
    gc.disable()
    try:
        # Threads of other tests may leave something now and then; what reading leaves is there each time.
        assert min(left() for _ in range(3)) == 0
    finally:
        gc.enable()


def test_numbers_are_exact() -> None:
    """A number that no float holds, and one of more than 64 bits, come as exactly as they were sent."""
    body = json.dumps({"code": 200, "data": [changed(details={}, bcId=0)]})
    body = body.replace('"details": {}', '"details": {"a": 0.1000000000000000000001, "b": 0.25}')
    body = body.replace('"bcId": 0', '"bcId": 123456789012345678901234567890')
    [payment] = structure_rows(listing(body.encode()), [0])
    assert payment.details == {"a": Decimal("0.1000000000000000000001"), "b": 0.25}
    assert payment.extra["bcId"] == 123456789012345678901234567890
    assert payment == structure_payment(decode(body.encode())["data"][0])


def test_bytes_that_are_no_text_fail_where_they_stand() -> None:
    """A row that is not UTF-8 fails alone: the one before it was given."""
    body = page([changed(id=1), changed(id=2, payerName="~")]).body.replace(b"~", b"\xff")
    payments = structure_rows(listing(body), [0, 1])
    assert next(payments).id == 1
    with pytest.raises(ResponseDecodeError, match="UTF-8"):
        next(payments)


@pytest.mark.slow
def test_names_are_learned_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that makes up names without end is read right, and costs no more memory than the bound.

    Where the bound is reached, learning begins again; and one page teaches so much and no more.
    """
    monkeypatch.setattr(row_types, "_MAX_UNKNOWN_NAMES", 23)  # the example has three itself
    reader = RowReader()
    for number in range(25):
        row = changed(**{f"new{number}": number})
        assert fits(reader, [row]) == [True]
        [payment] = read([row])
        assert payment.extra[f"new{number}"] == number
        assert sum(map(len, reader.pages.types.schema.unknown.values())) <= 23
    many = [changed(**{f"more{number}": number}) for number in range(40)]
    assert all(fits(RowReader(), many))
    monkeypatch.setattr("b2b_payments._converter.rows._MAX_INFERENCES", 1)
    assert fits(RowReader(), many).count(False) >= 10
    assert [payment.extra[f"more{number}"] for number, payment in enumerate(read(many))] == list(range(40))


@pytest.mark.parametrize(
    "name", ['quo"te', "back\\slash", "line\nbreak", "", "x" * 101, "x`$.data[", "x` - at `$.id"]
)
def test_a_name_that_no_field_can_have_is_kept(name: str) -> None:
    """Names that JSON has to escape, or that are very long, go the slow way and are kept all the same."""
    [payment] = read([changed(**{name: [1]})])
    assert payment.extra[name] == [1]
    assert to_wire(payment) == changed(**{name: [1]})


@pytest.mark.parametrize("step", [0, 400])
def test_no_cells_are_looked_at_for_more_names_than_are_remembered(
    step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that makes up names by the hundred costs no look at each, over and over for each row."""
    looks = 0
    probes_of = row_types._probes_of

    def counted(field: Any) -> Any:
        nonlocal looks
        looks += field is None
        return probes_of(field)

    monkeypatch.setattr(row_types, "_probes_of", counted)
    rows = [changed(id=row, **{f"n{step * row + name}": name for name in range(400)}) for row in range(30)]
    assert not any(fits(RowReader(), rows))
    assert looks == 0
    assert [to_wire(payment) for payment in read(rows)] == rows


def test_rows_that_do_not_fit_are_looked_at_so_often_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks that teach nothing count as well: a page of rows that do not fit costs no look for each."""
    looks = list[bytes]()
    with_page = row_types.InferredSchema.with_page

    def counted(schema: row_types.InferredSchema, body: bytes) -> row_types.InferredSchema:
        looks.append(body)
        return with_page(schema, body)

    monkeypatch.setattr(row_types.InferredSchema, "with_page", counted)
    assert not any(fits(RowReader(), [changed(**{'quo"te': 1}) for _ in range(60)]))
    assert len(looks) == 20


@pytest.mark.parametrize("is_awaited", [True, False])
@pytest.mark.parametrize(
    "fields", [{"total": "30 USD"}, {"payerName": "~"}, {"details": {"a": json.loads("[" * 150 + "]" * 150)}}]
)
def test_an_error_shows_nothing_of_a_row(fields: dict[str, Any], is_awaited: bool) -> None:
    """No frame of this library in the traceback of a row that cannot be read has the row at hand."""
    body = page([changed(**{"customerName": "Secret", **fields})]).body.replace(b"~", b"\xff")
    answer = Answer(200, {}, body)

    def work() -> list[Payment]:
        came = read_listing(
            list_payments(()), answer, "", offset=0, decoded=lambda body: decoded_page(body, is_awaited)
        )
        return list(structure_rows(came, [0]))

    with pytest.raises(ResponseDecodeError) as caught:
        work()
    frames = [entry.frame for entry in caught.traceback if "b2b_payments" in str(entry.path)]
    held = [
        value for frame in frames if frame.f_globals is not globals() for value in frame.f_locals.values()
    ]
    texts = [bytes(one) if isinstance(one, bytes | msgspec.Raw) else repr(one).encode() for one in held]
    assert frames
    assert not [text for text in texts if b"Secret" in text]


def test_threads_learn_at_once() -> None:
    """Loops in several threads that meet other unknown names at the same time each read their rows right."""
    reader = RowReader()

    def work(worker: int) -> bool:
        rows = [changed(**{f"w{worker}n{number}": number}) for number in range(5)]
        expected = [structure_payment(row) for row in rows]
        pages = [page([row]) for row in rows[1:]]
        read = [next(reader.read(one, [0], lambda *_: expected[0])) for one in pages]
        return read == expected[1:]

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
