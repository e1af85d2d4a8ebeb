"""The converter: all of the vendor's examples, and all tolerated formats."""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import attrs
import pytest

from b2b_payments._converter import (
    from_wire,
    offline_payment_body,
    offline_payment_from,
    structure,
    structure_list,
    structure_payment,
    to_wire,
)
from b2b_payments._converter.service import service_converter
from b2b_payments._converter.unreadable import UNREADABLE, decode_error
from b2b_payments._errors import ConfigurationError, ResponseDecodeError
from b2b_payments._models import (
    Card,
    Channel,
    Fee,
    LineItem,
    Money,
    OfflineLineItem,
    OfflinePayment,
    Operation,
    Payment,
    PaymentOperations,
    ProcessingStatus,
    Transaction,
)
from b2b_payments.testing import make_payment
from tests.support import examples
from tests.support.strategies import REQUIRED


def changed(**fields: Any) -> dict[str, Any]:
    """Return the listed example with other fields."""
    return copy.deepcopy({**examples.LISTED_PAYMENT, **fields})


def without(*names: str) -> dict[str, Any]:
    """Return the listed example without some fields."""
    return {name: value for name, value in changed().items() if name not in names}


def problem(read: Callable[[], object]) -> ResponseDecodeError:
    """Return the error that reading raises."""
    with pytest.raises(ResponseDecodeError) as caught:
        read()
    return caught.value


@pytest.mark.parametrize("wire", [examples.LISTED_PAYMENT, examples.SHOWN_PAYMENT], ids=["listed", "shown"])
def test_payment_examples_round_trip(wire: dict[str, Any]) -> None:
    """The vendor's payments are read, and converted back to equal wire objects."""
    assert json.loads(json.dumps(to_wire(structure_payment(wire)))) == wire


def test_other_examples_round_trip() -> None:
    """The vendor's transactions, operations and channels are read, and converted back to equal objects."""
    assert [
        to_wire(one) for one in structure_list(Transaction, examples.TRANSACTIONS)
    ] == examples.TRANSACTIONS
    assert to_wire(structure(PaymentOperations, examples.OPERATIONS)) == examples.OPERATIONS
    assert [to_wire(one) for one in structure_list(Channel, examples.CHANNELS)] == examples.CHANNELS


def test_types_of_a_payment() -> None:
    """Times are aware and in UTC, money keeps its zeros, codes are enums, unknown fields are in extra."""
    payment = structure_payment(examples.LISTED_PAYMENT)
    assert type(payment) is Payment
    assert payment.created_at == datetime(2021, 4, 19, 2, 46, 33, tzinfo=UTC)
    assert payment.created_at.tzinfo is UTC
    assert str(payment.total.amount) == "30.0000"
    assert payment.processing_status is ProcessingStatus.COMPLETED
    assert payment.allowed_operations == (Operation.REVERT_FROM_INVOICES,)
    assert payment.allowed_statuses[0] is ProcessingStatus.AWAITING_PROCESSING
    assert payment.channel_id == 1
    assert payment.line_items == (LineItem(70, 2342, "03002", Money("USD", Decimal(30))),)
    assert payment.extra == {"bcId": "32", "bcGroupName": "Wholesale", "customerBcId": "1417"}
    assert payment.details == examples.LISTED_PAYMENT["details"]


def test_types_of_other_models() -> None:
    """Fees, transactions, cards and channels have their declared types."""
    [fee] = structure_payment(examples.SHOWN_PAYMENT).fees
    assert fee == Fee("surcharge", "Card surcharge", Decimal("1.5"))
    [transaction] = structure_list(Transaction, examples.TRANSACTIONS)
    assert transaction.card == Card("Visa", "1111", 2050, 12)
    [channel] = structure_list(Channel, examples.CHANNELS)
    assert (channel.id, channel.channel_id, channel.is_enabled) == (12, 1, True)
    assert channel.created_at == datetime(2021, 4, 19, 2, 46, 33, tzinfo=UTC)
    assert structure(PaymentOperations, examples.OPERATIONS) == PaymentOperations((), (1, 2, 3, 4))


@pytest.mark.parametrize(
    ("field", "sent", "attribute", "read"),
    [
        ("id", "70", "id", 70),
        ("id", 70.0, "id", 70),
        ("customerId", 95075, "customer_id", "95075"),
        ("customerId", "", "customer_id", ""),
        ("externalId", "", "external_id", ""),
        ("externalId", 7, "external_id", "7"),
        ("payerName", None, "payer_name", ""),
        ("customerName", None, "customer_name", ""),
        ("details", None, "details", {}),
        ("details", "", "details", {}),
        ("moduleData", None, "module_data", {}),
        ("fees", None, "fees", ()),
        ("lineItems", None, "line_items", ()),
        ("details", [], "details", {}),
        ("moduleData", [], "module_data", {}),
        ("lineItems", {}, "line_items", ()),
        ("fees", {}, "fees", ()),
        ("fees", [1.5, {"type": "a"}, 2], "fees", (Fee(amount="1.5"), Fee("a"), Fee(amount=2))),
        ("fees", ["0.1234567890123456789"], "fees", (Fee(amount="0.1234567890123456789"),)),
        ("allowedStatuses", {}, "allowed_statuses", ()),
        ("allowedOperations", {}, "allowed_operations", ()),
        ("lineItems", [{"amount": []}], "line_items", (LineItem(),)),
        ("processingStatus", "3", "processing_status", ProcessingStatus.COMPLETED),
        ("processingStatus", 0, "processing_status", ProcessingStatus.INCOMPLETE),
        ("processingStatus", 9, "processing_status", 9),
        ("appliedStatus", "1", "applied_status", 1),
        ("fundingStatus", 8, "funding_status", 8),
        ("allowedOperations", [0, 3], "allowed_operations", (Operation.APPLY_TO_INVOICES, 3)),
        ("allowedStatuses", ["1", 7], "allowed_statuses", (ProcessingStatus.AWAITING_PROCESSING, 7)),
        ("allowedStatuses", list(range(300)), "allowed_statuses", tuple(range(300))),
        ("channelId", 1, "channel_id", 1),
        ("channelId", "01", "channel_id", 1),
        ("channelId", "", "channel_id", None),
        ("channelId", None, "channel_id", None),
        ("channelName", None, "channel_name", None),
        ("createdAt", "1618800393", "created_at", datetime(2021, 4, 19, 2, 46, 33, tzinfo=UTC)),
        ("createdAt", "1618800393.5", "created_at", datetime(2021, 4, 19, 2, 46, 33, 500_000, tzinfo=UTC)),
        ("createdAt", 1618800393.25, "created_at", datetime(2021, 4, 19, 2, 46, 33, 250_000, tzinfo=UTC)),
        ("createdAt", -1, "created_at", datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("total", {"code": None, "value": 30}, "total", Money("", 30)),
        ("total", {"code": "USD", "value": 0.1}, "total", Money("USD", "0.1")),
        ("total", {"code": "USD", "value": "1E+2", "x": 1}, "total", Money("USD", 100, {"x": 1})),
    ],
)
def test_an_unusual_format_round_trips(field: str, sent: object, attribute: str, read: object) -> None:
    """Every tolerated format is read as the right value, and converted back to the same format."""
    wire = changed(**{field: sent})
    payment = structure_payment(wire)
    assert getattr(payment, attribute) == read
    assert type(getattr(payment, attribute)) is type(read)
    assert to_wire(payment) == wire


@pytest.mark.parametrize("field", sorted(set(examples.LISTED_PAYMENT) - set(REQUIRED)))
def test_an_optional_field_may_be_absent_or_null(field: str) -> None:
    """A payment whose optional field is absent or null is read, and converted back to the same object."""
    for wire in (without(field), changed(**{field: None})):
        assert to_wire(structure_payment(wire)) == wire


@pytest.mark.parametrize("field", REQUIRED)
def test_a_required_field_must_be_present(field: str) -> None:
    """A payment whose required field is absent, null or an object is refused; the error names the field."""
    for wire in (without(field), changed(**{field: None}), changed(**{field: {"code": "USD"}})):
        error = problem(lambda wire=wire: structure_list(Payment, [wire]))  # type: ignore[misc]
        assert error.paths[0].startswith(f"$.data[0].{field}")
        assert f"$.data[0].{field}" in str(error)


@pytest.mark.parametrize(
    ("field", "sent", "path"),
    [
        ("id", True, "id"),
        ("id", "seventy", "id"),
        ("id", 1.5, "id"),
        ("customerId", True, "customerId"),
        ("createdAt", 10**30, "createdAt"),
        ("createdAt", 10**12, "createdAt"),
        ("createdAt", "-1e30", "createdAt"),
        ("createdAt", float("nan"), "createdAt"),
        ("createdAt", "soon", "createdAt"),
        ("processingStatus", False, "processingStatus"),
        ("allowedStatuses", [1, True], "allowedStatuses[1]"),
        ("allowedStatuses", 3, "allowedStatuses"),
        ("lineItems", {"0": {}}, "lineItems"),
        ("allowedStatuses", {"0": 1}, "allowedStatuses"),
        ("channelId", [], "channelId"),
        ("fees", ["1_000"], "fees[0].amount"),
        ("fees", ["free"], "fees[0].amount"),
        ("fees", [True], "fees[0]"),
        ("lineItems", [{}, 3], "lineItems[1]"),
        ("lineItems", [{"amount": {"code": "USD", "value": "x"}}], "lineItems[0].amount.value"),
        ("fees", [{"amount": float("inf")}], "fees[0].amount"),
        ("details", [1], "details"),
        ("total", [], "total"),
        ("total", {"code": "USD", "value": "NaN"}, "total.value"),
        ("total", {"code": "USD", "value": "Infinity"}, "total.value"),
        ("total", {"code": "USD", "value": "1E+999999999"}, "total.value"),
        ("total", {"code": "USD", "value": True}, "total.value"),
        ("total", {"code": {}, "value": "1"}, "total.code"),
        ("total", {"code": "USD"}, "total.value"),
        ("channelId", "one", "channelId"),
        ("payerName", ["x"], "payerName"),
    ],
)
def test_the_error_has_the_path_of_an_unreadable_value(field: str, sent: object, path: str) -> None:
    """An unreadable value is refused with its path, and the error does not show the value."""
    error = problem(lambda: structure_payment(changed(**{field: sent})))
    assert error.paths == [f"$.data.{path}"]
    assert str(error).startswith(f"$.data.{path} cannot be read: expected ")
    assert "seventy" not in str(error)


def test_an_error_has_all_paths_up_to_a_limit() -> None:
    """One error has the paths of all unreadable values of a page, but at most 20."""
    error = problem(
        lambda: structure_list(Payment, [changed(id=None, total=None), changed(), changed(id="x")])
    )
    assert error.paths == ["$.data[0].id", "$.data[0].total", "$.data[2].id"]
    assert "2 more values" in str(error)
    assert len(problem(lambda: structure_list(Payment, [{}] * 250)).paths) == 20


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (None, "null"),
        ({}, "an object"),
        ("", "empty text"),
        (3, "another number"),
        (object(), "something else"),
    ],
)
def test_a_list_must_be_a_list(rows: object, found: str) -> None:
    """Anything but a list of rows is refused, with its path and the type found."""
    error = problem(lambda: structure_list(Payment, rows, "$.rows"))
    assert error.paths == ["$.rows"]
    assert str(error) == f"$.rows cannot be read: expected a list of objects, found {found}."


@pytest.mark.parametrize("raw", [None, "", "text", [1, {"a": None}], {"a": [1.5]}])
def test_a_raw_transaction_is_unchanged(raw: object) -> None:
    """A gateway's raw transaction may have any of five types, and is kept unchanged."""
    [transaction] = structure_list(Transaction, [{"type": "X", "rawTransaction": raw}])
    assert transaction.raw_transaction == raw
    assert to_wire(transaction) == {"type": "X", "rawTransaction": raw}


@pytest.mark.parametrize("code", [None, "", "A1"])
def test_an_auth_code_is_unchanged(code: str | None) -> None:
    """An authorisation code may be null, empty or text, and is kept unchanged."""
    [transaction] = structure_list(Transaction, [{"authCode": code}])
    assert transaction.auth_code == code
    assert to_wire(transaction) == {"authCode": code}


def test_an_unexpected_type_does_not_make_a_transaction_unreadable() -> None:
    """A transaction's field of an unexpected type is None, and is converted back as received."""
    wire = {"type": "X", "memo": {"a": 1}, "card": "none", "event": ""}
    [transaction] = structure_list(Transaction, [wire])
    assert transaction == Transaction("X", event="")
    assert to_wire(transaction) == wire
    assert problem(lambda: structure_list(Transaction, ["X"])).paths == ["$.data[0]"]


@pytest.mark.parametrize(("sent", "flag"), [(1, True), ("false", False), (0, False), (None, None)])
def test_a_flag_has_several_formats(sent: object, flag: bool | None) -> None:
    """A channel's flag may be a bool, 1, 0 or text, and is converted back as received."""
    wire = {**examples.CHANNELS[0], "isVisible": sent, "createdAt": 1618800393, "updatedAt": ""}
    [channel] = structure_list(Channel, [wire])
    assert channel.is_visible is flag
    assert channel.updated_at is None
    assert to_wire(channel) == wire
    assert problem(lambda: structure_list(Channel, [{**wire, "isVisible": "?"}])).paths == [
        "$.data[0].isVisible"
    ]


def test_an_evolved_payment_shows_the_change() -> None:
    """A changed attribute is in the wire object, even if its field was absent, null or in another format."""
    wire = changed(payerName=None, fees=None, id="70", details=None)
    del wire["channelId"]
    payment = structure_payment(wire)
    after = attrs.evolve(
        payment, payer_name="x", channel_id=4, id=71, fees=[Fee("a", "b", "0.10")], external_id="e"
    )
    assert to_wire(after) == {
        **wire,
        "payerName": "x",
        "channelId": "4",
        "id": 71,
        "fees": [{"type": "a", "description": "b", "amount": 0.1}],
        "externalId": "e",
    }
    assert to_wire(payment) == wire
    for extra in (payment.extra | {"new": 1}, {"new": 1} | payment.extra):
        assert to_wire(attrs.evolve(payment, extra=extra)) == wire | {"new": 1}


def test_a_payment_built_by_a_caller_omits_defaults() -> None:
    """The wire object of a payment that a caller built has no fields that were not set."""
    time = datetime(2021, 4, 19, 2, 46, 33, 500_000, tzinfo=UTC)
    payment = Payment(
        id=1,
        created_at=time,
        updated_at=time.replace(microsecond=0),
        customer_id="7",
        total=Money("USD", "0.00000000", extra={"rate": Decimal("0.12345678901234567890")}),
        processing_status=ProcessingStatus.INCOMPLETE,
        applied_status=0,
        funding_status=0,
        details={"memo": ("a", ProcessingStatus.AWAITING_PROCESSING)},
    )
    assert to_wire(payment) == {
        "id": 1,
        "createdAt": 1618800393.5,
        "updatedAt": 1618800393,
        "customerId": "7",
        "total": {"code": "USD", "value": "0.00000000", "rate": "0.12345678901234567890"},
        "processingStatus": 0,
        "appliedStatus": 0,
        "fundingStatus": 0,
        "details": {"memo": ["a", 1]},
    }


@pytest.mark.parametrize(
    ("sent", "returned"),
    [
        (Decimal("0.12345678901234567890"), "0.12345678901234567890"),
        (Decimal("1E+400"), "1E+400"),
        (Decimal("1.50"), 1.5),
        (Decimal(10**30), 10**30),
        (Decimal("Infinity"), "Infinity"),
    ],
)
def test_numbers_round_trip_without_loss(sent: Decimal, returned: object) -> None:
    """A number that no float holds is converted back to its digits in a string, any other to a number."""
    wire = to_wire(structure_payment(changed(details={"rate": sent})))
    assert wire["details"] == {"rate": returned}
    assert type(wire["details"]["rate"]) is type(returned)


def test_a_wire_object_shares_nothing_with_its_model() -> None:
    """Changing the wire object does not change the model."""
    payment = structure_payment(changed())
    wire = to_wire(payment)
    wire["details"]["memo"] = "other"
    wire["moduleData"]["transactions"].clear()
    assert to_wire(payment) == changed()


def test_subclasses_of_text_and_dict_are_read() -> None:
    """A wire object built by a program may have subclasses of str and dict, such as Django's safe strings."""

    class Text(str):
        __slots__ = ()

    wire = examples.LISTED_PAYMENT | {"payerName": Text("Ann"), "details": OrderedDict(memo="m")}
    read = from_wire(Payment, wire)
    assert (read.payer_name, read.details) == ("Ann", {"memo": "m"})


def test_to_wire_refuses_what_it_cannot_convert() -> None:
    """A model with a value that JSON cannot represent, and anything that is not a model, are refused."""
    with pytest.raises(ConfigurationError, match="datetime cannot be stored in JSON"):
        to_wire(Money("USD", 1, extra={"at": datetime.now(UTC)}))
    changes: list[dict[str, Any]] = [
        {"id": "x"}, {"applied_status": [1]}, {"processing_status": "done"}, {"allowed_statuses": [None]},
        {"id": 1.5}, {"applied_status": 2.9}, {"channel_id": "x"}, {"channel_id": 1.5},
        {"line_items": [LineItem(invoice_id=cast("int", float("nan")))]},
    ]  # fmt: skip
    for change in changes:
        for payment in (make_payment(), structure_payment(examples.LISTED_PAYMENT)):
            with pytest.raises(ConfigurationError, match="is not a whole number: give an int"):
                to_wire(attrs.evolve(payment, **change))
    with pytest.raises(ConfigurationError, match="to_wire was given dict"):
        to_wire({})


@pytest.mark.slow
def test_many_unknown_fields_round_trip() -> None:
    """Rows with ever new unknown fields, and one with 200 of them, are converted back to equal objects."""
    rows = [changed(**{f"new{index}": index}) for index in range(201)]
    rows.append(changed(**{f"new{index}": index for index in range(200)}))
    assert [to_wire(payment) for payment in structure_list(Payment, rows)] == rows


def test_the_vendors_offline_payment() -> None:
    """The body of an offline payment equals the vendor's example."""
    payment = OfflinePayment(
        customer_id="113",
        currency="USD",
        line_items=[OfflineLineItem(13, "20.00")],
        details={"memo": "Test"},
        payer_name="Store offline payment",
        payer_customer_id="113",
        processing_status=ProcessingStatus.COMPLETED,
        funding_status=2,
    )
    body = offline_payment_body(payment)
    assert body == examples.CREATE_OFFLINE_BODY == examples.UPDATE_OFFLINE_BODY
    assert type(body["processingStatus"]) is int
    assert offline_payment_from(body) == payment
    assert offline_payment_from(body | {"processingStatus": "3", "payerName": None}).payer_name is None


def test_an_offline_payment_sends_no_nulls() -> None:
    """Fields of an offline payment that were not set are not sent, except `details`, which is required."""
    items = [OfflineLineItem(13, Decimal("0E-8"))]
    payment = OfflinePayment(113, "usd", items, funding_status=0, external_id="")
    assert offline_payment_body(payment) == {
        "customerId": "113",
        "currency": "USD",
        "lineItems": [{"invoiceId": 13, "amount": "0.00000000"}],
        "details": {},
        "externalId": "",
        "fundingStatus": 0,
    }


def test_cattrs_knows_the_models() -> None:
    """The cattrs converter reads and writes models within collections."""
    assert service_converter.structure([examples.LISTED_PAYMENT], list[Payment])[0].id == 70
    assert service_converter.unstructure([Money("USD", "1.0")]) == [{"code": "USD", "value": "1.0"}]
    with pytest.raises(UNREADABLE) as caught:
        service_converter.structure([{}], list[Channel])
    assert decode_error(caught.value, "$").paths == ["$[0].id", "$[0].channelId"]
