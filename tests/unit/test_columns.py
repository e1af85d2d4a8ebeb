"""Rows in one spelling: what another parser of the service's own bytes would take for something else."""

from __future__ import annotations

import gc
import json
from types import SimpleNamespace

import pytest

from b2b_payments._converter import ColumnReader, columns
from b2b_payments._errors import ResponseDecodeError
from tests.support.examples import LISTED_PAYMENT


def sent(**fields: object) -> bytes:
    """Return the listed example with other fields, as bytes."""
    return json.dumps({**LISTED_PAYMENT, **fields}).encode()


def read(row: bytes, reader: ColumnReader | None = None) -> SimpleNamespace:
    """Read one row, between two usual ones; give its cells by name, and its line items."""
    body = b'{"data":[%b,%b,%b]}' % (sent(id=1), row, sent(id=2))
    found = (reader or ColumnReader()).read(body, range(3))
    first, count, _ = found.counts
    items = [
        SimpleNamespace(**{name.replace(".", "_"): cells[place] for name, cells in found.items.items()})
        for place in range(first, first + count)
    ]
    cells = {name.replace(".", "_"): cells[1] for name, cells in found.payments.items()}
    return SimpleNamespace(**cells, line_items=items)


def test_a_usual_row_is_as_it_was_sent() -> None:
    """The example's cells are those of the vendor's object; JSON in them is text."""
    row = read(sent())
    assert (row.id, row.customer_id, row.channel_id, row.external_id) == (70, "95075", 1, None)
    assert row.created_at == 1_618_800_393_000_000
    assert (row.total_amount, row.total_currency) == ("30.0000", "USD")
    assert [(item.invoice_id, item.amount_amount, item.extra) for item in row.line_items] == [
        (2342, "30.0000", "{}")
    ]
    assert (row.details, row.fees, row.allowed_statuses) == ('{"memo": "memo"}', "[]", "[1,2,3,4]")
    assert json.loads(row.extra) == {"bcId": "32", "bcGroupName": "Wholesale", "customerBcId": "1417"}


@pytest.mark.parametrize("value", [1.6, True, "1_000", "0x10", " 7 ", "\u0661", "7.0"])
def test_what_is_no_id_is_refused_by_name(value: object) -> None:
    """What another parser rounds or casts into an id is no id here; the error names the payment's place."""
    with pytest.raises(ResponseDecodeError) as caught:
        read(sent(id=value))
    assert caught.value.paths[0].endswith("$.id")
    with pytest.raises(ResponseDecodeError, match="payment 70"):
        read(sent(channelId=value))


def test_an_id_that_is_spelled_otherwise_is_a_number() -> None:
    """Digits in text are numbers, with a zero in front or not; so is a float without a fraction."""
    assert [read(sent(channelId=value)).channel_id for value in ("007", 7.0, 7, "", None)] == [
        7,
        7,
        7,
        None,
        None,
    ]
    assert read(sent(id="12345678901234567")).id == 12345678901234567
    assert read(sent(id=10**37)).id == 10**37
    with pytest.raises(ResponseDecodeError):
        read(sent(id=10**38))


@pytest.mark.parametrize("amount", ["0.1234567890123", "1E+3", "007.50", 30, 30.5, "+2", "-0.00"])
def test_amounts_keep_every_digit(amount: object) -> None:
    """Amounts of any spelling are digits without an exponent, and none is rounded."""
    wanted = {"1E+3": "1000", "007.50": "7.50", "+2": "2"}.get(str(amount), str(amount))
    assert read(sent(total={"code": "USD", "value": amount})).total_amount == wanted


@pytest.mark.parametrize("amount", ["", "1\n2", "1_000", "\u0661", ".", "0." + "1" * 101, None, True, [1]])
def test_what_is_no_amount_is_refused(amount: object) -> None:
    """Nothing is taken for an amount that is not one number, of a sane length."""
    with pytest.raises(ResponseDecodeError, match="payment 70"):
        read(sent(total={"code": "USD", "value": amount}))


def test_zeros_are_kept_in_a_row_that_is_read_by_its_model() -> None:
    """Where a row's names need the slow way, its amounts have their zeros, and large ids all their digits."""
    total = {"code": "USD", "value": "0.00000000", 'a"b': 1}
    row = read(sent(id=10**37, total=total, details={"a": 1.5}, fees=[1.50, {"amount": 2}]))
    assert (row.id, row.total_amount, row.details) == (10**37, "0.00000000", '{"a":1.5}')
    assert (row.fees, json.loads(row.extra)["total"]) == ('[1.5,{"amount":2}]', {'a"b': 1})


def test_long_lists_of_codes_are_not_remembered() -> None:
    """What is remembered of codes is bounded: lists that no service needs are spelled each time."""
    read(sent())
    before = columns._cached_codes_text.cache_info().currsize
    assert json.loads(read(sent(allowedStatuses=[1] * 101)).allowed_statuses) == [1] * 101
    assert columns._cached_codes_text.cache_info().currsize == before
    assert json.loads(read(sent(allowedStatuses=[1] * 99)).allowed_statuses) == [1] * 99
    assert columns._cached_codes_text.cache_info().currsize == before + 1


def test_a_doubled_name_counts_once() -> None:
    """Of a field that is there twice the last counts; within an object, both stay as they were sent."""
    doubled = (
        sent().replace(b'"id": 70', b'"id": 5, "id": 70').replace(b'{"memo": "memo"}', b'{"memo":1,"memo":2}')
    )
    row = read(doubled)
    assert (row.id, row.details) == (70, '{"memo":1,"memo":2}')


def test_half_of_a_surrogate_pair_is_replaced() -> None:
    """Half of a surrogate pair, which no text can hold, becomes U+FFFD in texts and in JSON text."""
    row = read(sent(payerName="\ud800x", details={"memo": "\udc00"}))
    assert row.payer_name == "\ufffdx"
    assert json.loads(row.details) == {"memo": "\ufffd"}


def test_numbers_in_json_text_keep_their_digits() -> None:
    """A number that no float holds stands in JSON text as it was sent."""
    row = read(sent(details={}).replace(b'"details": {}', b'"details": {"a": 0.1000000000000000000001}'))
    assert row.details == '{"a": 0.1000000000000000000001}'


def test_deep_objects_are_refused() -> None:
    """What is nested too deeply to be read is refused, and named."""
    deep = b"[" * 200_000 + b"]" * 200_000  # more than any interpreter bears
    with pytest.raises(ResponseDecodeError):
        read(sent(details={}).replace(b'"details": {}', b'"details": {"a": %b}' % deep))


def test_usual_oddities_do_not_need_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numeric customer ids, null names, fees, unknown fields and ids in text are read without a model."""

    def refuse(*_: object) -> None:
        raise AssertionError("read as a model")

    monkeypatch.setattr("b2b_payments._converter.columns.structure_payment", refuse)
    reader = ColumnReader()
    row = read(sent(customerId=7, payerName=None, fees=[1.5, {"amount": 2}], new={"a": [1]}, id="70"), reader)
    assert (row.customer_id, row.payer_name, row.fees, row.id) == ("7", "", '[1.5, {"amount": 2}]', 70)
    assert json.loads(row.extra)["new"] == {"a": [1]}
    assert "new" not in json.loads(read(sent(), reader).extra)


def test_what_is_unknown_within_an_amount_is_in_extra() -> None:
    """Unknown fields of the total, and of an item's amount, are in `extra` under that name."""
    amount = {"code": "USD", "value": "1", "symbol": "$", "50%": None}
    row = read(sent(total=amount, lineItems=[{"amount": amount, "note": 1}, {"invoiceId": 1}]))
    beside = {"symbol": "$", "50%": None}
    assert json.loads(row.extra)["total"] == beside
    assert [json.loads(item.extra) for item in row.line_items] == [{"note": 1, "amount": beside}, {}]


def test_a_name_that_cannot_be_learned() -> None:
    """An unknown name of any kind is in `extra` as it was sent."""
    for name in ('a"b', "x" * 1_000, "\n", "%b", "extra", "unknown0", "üé", "", "x`$.data[", "x` - at `$"):
        assert json.loads(read(sent(**{name: 1})).extra)[name] == 1
        assert json.loads(read(sent(lineItems=[{name: 2}])).line_items[0].extra)[name] == 2


def test_columns_of_many_line_items_leave_the_garbage_collector_asleep() -> None:
    """A page has thousands of line items: their cells are taken a few at a time, each in its place."""
    amount = {"code": "USD", "value": "1.00"}
    items = [
        {"paymentId": 70, "invoiceId": number, "invoiceNumber": str(number), "amount": amount}
        for number in range(3_000)
    ]
    body = b'{"data":[%b]}' % sent(lineItems=items)
    reader = ColumnReader()
    reader.read(body, [0])
    started: list[str] = []

    def note(phase: str, _: object) -> None:
        started.append(phase)

    gc.collect()
    gc.callbacks.append(note)
    try:
        found = reader.read(body, [0])
    finally:
        gc.callbacks.remove(note)
    assert found.items["invoice_id"] == list(range(3_000))
    assert found.items["invoice_number"] == list(map(str, range(3_000)))
    assert not started
