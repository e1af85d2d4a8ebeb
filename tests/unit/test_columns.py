"""Normalized columns, for values that other parsers of the service's bytes would misread."""

from __future__ import annotations

import gc
import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from b2b_payments import Payment, from_wire, to_wire
from b2b_payments._converter import ColumnReader, columns, rows
from b2b_payments._errors import ResponseDecodeError
from tests.support.examples import LISTED_PAYMENT


def sent(**fields: object) -> bytes:
    """Return the listed example with other fields, as bytes."""
    return json.dumps({**LISTED_PAYMENT, **fields}).encode()


def read(row: bytes, reader: ColumnReader | None = None) -> SimpleNamespace:
    """Read a row between two usual ones. Returns its cells by name, and its line items."""
    body = b'{"data":[%b,%b,%b]}' % (sent(id=1), row, sent(id=2))
    result = (reader or ColumnReader()).read(body, range(3))
    first, count, _ = result.counts
    items = [
        SimpleNamespace(**{name.replace(".", "_"): cells[place] for name, cells in result.items.items()})
        for place in range(first, first + count)
    ]
    cells = {name.replace(".", "_"): cells[1] for name, cells in result.payments.items()}
    return SimpleNamespace(**cells, line_items=items)


def test_a_usual_row() -> None:
    """The cells of the vendor's example have its values; JSON objects are text."""
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
def test_an_invalid_id_is_refused(value: object) -> None:
    """A value that other parsers round or cast to an id is refused; the error has its path."""
    with pytest.raises(ResponseDecodeError) as caught:
        read(sent(id=value))
    assert caught.value.paths[0].endswith("$.id")
    with pytest.raises(ResponseDecodeError, match="payment 70"):
        read(sent(channelId=value))


def test_an_id_in_another_format_is_a_number() -> None:
    """Digits in text are numbers, even with a leading zero; so is a float without a fraction."""
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


@pytest.mark.parametrize(
    "moment",
    [
        1600000002.1234567,
        "1600000002.1234569999",
        "2020-09-13T12:26:42.123456999Z",
        "2020-09-13 12:26:42.1234561",
    ],
)
def test_times_are_cut_to_microseconds(moment: object) -> None:
    """A time in any format has microseconds; further digits are cut, as in the model."""
    assert read(sent(updatedAt=moment)).updated_at == 1_600_000_002_123_456
    payment = from_wire(Payment, {**LISTED_PAYMENT, "updatedAt": moment})
    assert payment.updated_at == datetime(2020, 9, 13, 12, 26, 42, 123_456, tzinfo=UTC)
    assert to_wire(payment)["updatedAt"] == moment


@pytest.mark.parametrize("amount", ["0.1234567890123", "1E+3", "007.50", 30, 30.5, "+2", "-0.00"])
def test_amounts_keep_every_digit(amount: object) -> None:
    """Amounts in any format become digits without an exponent, and none is rounded."""
    expected = {"1E+3": "1000", "007.50": "7.50", "+2": "2"}.get(str(amount), str(amount))
    assert read(sent(total={"code": "USD", "value": amount})).total_amount == expected


@pytest.mark.parametrize("amount", ["", "1\n2", "1_000", "\u0661", ".", "0." + "1" * 101, None, True, [1]])
def test_an_invalid_amount_is_refused(amount: object) -> None:
    """An amount that is not a single number of a sane length is refused."""
    with pytest.raises(ResponseDecodeError, match="payment 70"):
        read(sent(total={"code": "USD", "value": amount}))


def test_zeros_are_kept_in_a_row_that_is_read_as_a_model() -> None:
    """If a row fits no row type, its amounts keep their zeros, and large ids all their digits."""
    total = {"code": "USD", "value": "0.00000000", 'a"b': 1}
    row = read(sent(id=10**37, total=total, details={"a": 1.5}, fees=[1.50, {"amount": 2}]))
    assert (row.id, row.total_amount, row.details) == (10**37, "0.00000000", '{"a": 1.5}')
    assert (row.fees, json.loads(row.extra)["total"]) == ('[1.5, {"amount": 2}]', {'a"b': 1})


@pytest.mark.parametrize(
    ("member", "unknown"),
    [
        ('"payerName": "usual"', "{}"),
        ('"channelId": 1.0', "{}"),
        ('"updatedAt": 1600000002.5', "{}"),
        ('"processingStatus": 3.0', "{}"),
        ('"payerName": 1.50', "{}"),
        ('"a\\"b": 1.10', '"a\\"b":1.10'),
        ('"\\n": 1.10', '"\\n":1.10'),
        (f'"{"x" * 101}": 1.10', f'"{"x" * 101}":1.10'),
        (", ".join(f'"u{number}": 1.10' for number in range(201)), '"u200":1.10'),
        ('"total": {"code": "USD", "value": "1", "a\\\\": 1.10}', '"total":{"a\\\\":1.10}'),
        (
            '"lineItems": [{}, {"amount": {"value": "1", "b": [1.10], "a\\"": 1}, "z\\"": 1e5, "a": 1.10}]',
            '{}{"a":1.10,"z\\"":1e5,"amount":{"a\\"":1,"b":[1.10]}}',
        ),
        (
            '"lineItems": [{"amount": []}, {"amount": {"value": "1", "b": [1.10], "a": 1}, "z": 1e5}]',
            '{}{"z":1e5,"amount":{"a":1,"b":[1.10]}}',
        ),
    ],
)
@pytest.mark.parametrize("items", ["[]", "null", "{}"])
def test_json_text_is_as_received_in_any_row(member: str, unknown: str, items: str) -> None:
    """JSON text is as received in a row that fits no row type, and after any row."""
    details, fees = '{"a":1.10,"z":30.0000, "a":2,"e":1e5,"u":"\\u0041\\/"}', '[1.50, {"amount":0.10}]'
    texts = f'"details": {details}, "moduleData": {details}, "fees": {fees}, "new": {details}, {member}}}'
    reader = ColumnReader()
    read(sent()[:-1] + f', "lineItems": {items}}}'.encode(), reader)
    row = read(sent()[:-1] + b", " + texts.encode(), reader)
    assert (row.details, row.module_data, row.fees) == (details, details, fees)
    assert f'"new":{details}' in row.extra
    assert unknown in row.extra + "".join(item.extra for item in row.line_items)


def test_extra_does_not_depend_on_the_rows_before() -> None:
    """Unknown fields are in the order of their names, whichever of them came first."""
    reader = ColumnReader()
    first = read(sent(b=1, c=2), reader).extra
    read(sent(a=1, d=1), reader)
    assert read(sent(c=2, b=1), reader).extra == read(sent(c=2, b=1)).extra == first


def test_long_lists_of_codes_are_not_cached() -> None:
    """The cache of code lists is bounded: a list longer than any real one is encoded each time."""
    read(sent())
    before = columns._cached_codes_text.cache_info().currsize
    assert json.loads(read(sent(allowedStatuses=[1] * 101)).allowed_statuses) == [1] * 101
    assert columns._cached_codes_text.cache_info().currsize == before
    assert json.loads(read(sent(allowedStatuses=[1] * 99)).allowed_statuses) == [1] * 99
    assert columns._cached_codes_text.cache_info().currsize == before + 1


def test_the_last_of_duplicate_fields_counts() -> None:
    """The last of two fields of the same name counts; within a JSON object, both are kept."""
    duplicate = (
        sent().replace(b'"id": 70', b'"id": 5, "id": 70').replace(b'{"memo": "memo"}', b'{"memo":1,"memo":2}')
    )
    row = read(duplicate)
    assert (row.id, row.details) == (70, '{"memo":1,"memo":2}')


def test_half_of_a_surrogate_pair_is_replaced() -> None:
    """Half of a surrogate pair, which UTF-8 cannot encode, becomes U+FFFD in text cells and JSON text."""
    row = read(sent(payerName="\ud800x", details={"memo": "\udc00"}))
    assert row.payer_name == "\ufffdx"
    assert json.loads(row.details) == {"memo": "\ufffd"}


def test_line_breaks_around_a_row_do_not_change_its_text() -> None:
    """JSON text has no line breaks; its white space stays if the row has none, whatever surrounds it."""
    result = ColumnReader().read(
        b'{"data":[\n%b,\r\n%b]}\n' % (sent(), sent().replace(b": ", b":\n")), [0, 1]
    )
    assert result.payments["details"] == ['{"memo": "memo"}', '{"memo":"memo"}']


def test_numbers_in_json_text_keep_their_digits() -> None:
    """A number that no float holds keeps its digits in JSON text."""
    row = read(sent(details={}).replace(b'"details": {}', b'"details": {"a": 0.1000000000000000000001}'))
    assert row.details == '{"a": 0.1000000000000000000001}'


def test_deep_objects_are_refused() -> None:
    """Data that is nested too deeply is refused with a ResponseDecodeError."""
    deep = b"[" * 200_000 + b"]" * 200_000  # beyond the recursion limit of any interpreter
    with pytest.raises(ResponseDecodeError):
        read(sent(details={}).replace(b'"details": {}', b'"details": {"a": %b}' % deep))


def test_common_variants_need_no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fees, null, unknown fields, numbers for text, and text or floats for ids are read without a model."""

    def refuse(*_: object) -> None:
        raise AssertionError("read as a model")

    monkeypatch.setattr("b2b_payments._converter.columns.structure_row", refuse)
    reader = ColumnReader()
    row = read(sent(customerId=7, payerName=None, fees=[1.5, {"amount": 2}], new={"a": [1]}, id="70"), reader)
    assert (row.customer_id, row.payer_name, row.fees, row.id) == ("7", "", '[1.5, {"amount": 2}]', 70)
    assert json.loads(row.extra)["new"] == {"a": [1]}
    assert "new" not in json.loads(read(sent(), reader).extra)
    row = read(sent(id=7.0, updatedAt=1.25, customerId=7.5, processingStatus=3.0, channelId=8.0), reader)
    assert (row.id, row.updated_at, row.customer_id, row.processing_status, row.channel_id) == (
        7,
        1_250_000,
        "7.5",
        3,
        8,
    )


def test_a_row_that_fits_no_row_type_leaves_the_others_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a page with one such row, the other rows are still read many at a time, and all stay in order."""
    attempts = 0
    read_page = rows.PageReader.read

    def counted(pages: rows.PageReader, body: bytes) -> object:
        nonlocal attempts
        attempts += 1
        return read_page(pages, body)

    monkeypatch.setattr(rows.PageReader, "read", counted)
    page = [sent(id=number, **({'quo"te': number} if number == 100 else {})) for number in range(1, 251)]
    result = ColumnReader().read(b'{"data":[%b]}' % b",".join(page), range(250))
    assert result.payments["id"] == list(range(1, 251))
    assert [json.loads(text).get('quo"te') for text in result.payments["extra"]].index(100) == 99
    assert result.counts == [1] * 250
    assert attempts < 20


@pytest.mark.parametrize("name", ["new", 'quo"te'])
def test_a_page_without_new_rows_has_empty_columns(name: str) -> None:
    """Reading none of a page's rows gives every column, without cells, whether the rows fit or not."""
    reader = ColumnReader()
    body = b'{"data":[%b]}' % sent(**{name: 1})
    some, none = reader.read(body, [0]), reader.read(body, [])
    assert none.payments == {one: [] for one in some.payments}
    assert none.items == {one: [] for one in some.items}
    assert none.counts == []


def test_unknown_fields_of_an_amount_are_in_extra() -> None:
    """Unknown fields of the total, and of an item's amount, are in `extra` under that name."""
    amount = {"code": "USD", "value": "1", "symbol": "$", "50%": None}
    row = read(sent(total=amount, lineItems=[{"amount": amount, "note": 1}, {"invoiceId": 1}]))
    unknown = {"symbol": "$", "50%": None}
    assert json.loads(row.extra)["total"] == unknown
    assert [json.loads(item.extra) for item in row.line_items] == [{"note": 1, "amount": unknown}, {}]


def test_unknown_names_of_any_kind_are_in_extra() -> None:
    """An unknown name is in `extra` unchanged, even if no struct field can have it."""
    for name in ('a"b', "x" * 1_000, "\n", "%b", "extra", "unknown0", "üé", "", "x`$.data[", "x` - at `$"):
        assert json.loads(read(sent(**{name: 1})).extra)[name] == 1
        assert json.loads(read(sent(lineItems=[{name: 2}])).line_items[0].extra)[name] == 2


def test_many_line_items_do_not_trigger_the_garbage_collector() -> None:
    """The cells of thousands of line items are read a few at a time, and stay in order."""
    amount = {"code": "USD", "value": "1.00"}
    items = [
        {"paymentId": 70, "invoiceId": number, "invoiceNumber": str(number), "amount": amount}
        for number in range(3_000)
    ]
    body = b'{"data":[%b]}' % sent(lineItems=items)
    reader = ColumnReader()
    reader.read(body, [0])
    phases: list[str] = []

    def record(phase: str, _: object) -> None:
        phases.append(phase)

    gc.collect()
    gc.callbacks.append(record)
    try:
        result = reader.read(body, [0])
    finally:
        gc.callbacks.remove(record)
    assert result.items["invoice_id"] == list(range(3_000))
    assert result.items["invoice_number"] == list(map(str, range(3_000)))
    assert not phases


def test_line_breaks_between_tokens_are_left_out() -> None:
    """A page that is formatted on several lines has cells on one line, as formats by lines need them."""
    row = json.dumps({**LISTED_PAYMENT, "details": {"memo": "a\nb", "b": 1}}, indent=1).encode()
    assert b"\n" in row
    assert read(row).details == '{"memo":"a\\nb","b":1}'
    assert read(row.replace(b"\n", b"\r\n")).details == '{"memo":"a\\nb","b":1}'


@pytest.mark.parametrize(("payment_id", "named"), [(b"70", "payment 70: the"), (b"[]", "The")])
def test_a_row_that_is_no_json_of_ours_names_its_payment(payment_id: bytes, named: str) -> None:
    """A number that no decimal can hold is refused, and the error names the payment if its id is readable."""
    row = sent(total={"code": "USD", "value": 0}).replace(b'"value": 0', b'"value": 1e9999999999999999999')
    row = row.replace(b'"id": 70', b'"id": %b' % payment_id)
    with pytest.raises(ResponseDecodeError, match=rf"^{named} answer cannot be read"):
        read(row)
