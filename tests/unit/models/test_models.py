"""The models: frozen, comparable, and strict about what callers pass."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import attrs
import pytest

from b2b_payments._converter import offline_payment_body
from b2b_payments._errors import ConfigurationError
from b2b_payments._models import (
    Channel,
    Fee,
    Money,
    OfflineLineItem,
    OfflinePayment,
    Payment,
    ProcessingStatus,
)


def offline(**fields: Any) -> OfflinePayment:
    """Return an offline payment with some fields changed."""
    given = {"customer_id": "113", "currency": "USD", "line_items": [OfflineLineItem(13, "20.00")], **fields}
    return OfflinePayment(**given)


def payment(**fields: Any) -> Payment:
    """Return a payment with some fields changed."""
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    given: dict[str, Any] = {"created_at": moment, "updated_at": moment, "total": Money("USD", 1), **fields}
    return Payment(id=1, customer_id="7", processing_status=3, applied_status=0, funding_status=0, **given)


def test_models_are_frozen_and_hashable() -> None:
    """A model cannot be changed, and equal models have equal hashes."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        payment().id = 2  # type: ignore[misc]
    assert len({payment(), payment(details={}), payment(payer_name="x")}) == 2


def test_datetimes_are_converted_to_utc() -> None:
    """A caller's aware datetime is converted to UTC, and a naive one is refused."""
    local = datetime(2026, 1, 2, 5, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    assert payment(created_at=local).created_at.tzinfo is UTC
    assert payment(created_at=local) == payment()
    assert Channel(id=1, channel_id=1, created_at=local).created_at == local
    for wrong in (datetime(2026, 1, 2), 1618800393):  # noqa: DTZ001
        with pytest.raises(ConfigurationError, match="not an aware datetime"):
            payment(created_at=wrong)
    for wrong in (
        datetime.min.replace(tzinfo=local.tzinfo),
        datetime.max.replace(tzinfo=timezone(-timedelta(1 / 24))),
    ):
        with pytest.raises(ConfigurationError, match="outside the years 1 to 9999"):
            payment(created_at=wrong)


def test_lists_become_tuples() -> None:
    """A payment built with lists has tuples, so that it is immutable."""
    assert payment(allowed_statuses=[1]).allowed_statuses == (ProcessingStatus.AWAITING_PROCESSING,)


def test_wrong_types_are_refused_at_run_time_and_by_type_checkers() -> None:
    """Each call raises, and each is a type error too: mypy reports a `type: ignore` that is not needed."""
    item = OfflineLineItem(1, 2)
    with pytest.raises(ConfigurationError, match="is a float"):
        Money("USD", 1.5)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="is a float"):
        OfflineLineItem(invoice_id=1, amount=2.5)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="is a float"):
        Fee(amount=0.1)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="line_items holds dict"):
        OfflinePayment("1", "USD", [{"invoiceId": 1, "amount": "2"}])  # type: ignore[list-item]
    with pytest.raises(ConfigurationError, match="currency 840"):
        OfflinePayment("1", 840, [item])  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="details is not a mapping"):
        OfflinePayment("1", "USD", [item], details=["memo"])  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="processing_status 'done'"):
        OfflinePayment("1", "USD", [item], processing_status="done")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="external_id is float"):
        OfflinePayment("1", "USD", [item], external_id=5.5)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="not an aware datetime"):
        Channel(id=1, channel_id=1, created_at=1618800393)  # type: ignore[arg-type]


@pytest.mark.parametrize("amount", [Decimal("20.00"), "20.00"])
def test_an_amount_keeps_its_digits(amount: Decimal | str) -> None:
    """An amount passed as a Decimal or as text keeps its zeros."""
    assert str(OfflineLineItem(1, amount).amount) == "20.00"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (0.1, r"a float, .* give Decimal\('0.1'\)"),
        (True, "amount is bool"),
        (None, "amount is NoneType"),
        ("twenty", "'twenty' is not a finite number"),
        ("NaN", "not a finite number"),
        (Decimal("Infinity"), "not a finite number"),
        ("1E+200", "not a finite number"),
        ("1E-200", "not a finite number"),
    ],
)
def test_a_wrong_amount_is_refused(wrong: Any, sentence: str) -> None:
    """An invalid amount is refused with a message that says what to give."""
    with pytest.raises(ConfigurationError, match=sentence):
        OfflineLineItem(13, wrong)


def test_an_offline_payment_accepts_numbers_for_ids() -> None:
    """Ids of text fields and statuses may be ints, and a currency may be in lower case."""
    built = offline(
        customer_id=113, processing_status=1, currency="eur", external_id=5, details={"memo": "m"}
    )
    assert (built.customer_id, built.currency, built.external_id) == ("113", "EUR", "5")
    assert built.processing_status is ProcessingStatus.AWAITING_PROCESSING
    assert built.line_items == (OfflineLineItem(13, Decimal(20)),)


def test_details_become_plain_data() -> None:
    """Details keep None, bools and numbers; a whole Decimal becomes an int, another one a float if exact."""
    given = {
        "a": None,
        "b": True,
        "c": Decimal(7),
        "d": Decimal("0.5"),
        "e": Decimal("0.50000000000000000001"),
    }
    details = offline(details=given).details
    assert details == {"a": None, "b": True, "c": 7, "d": 0.5, "e": Decimal("0.50000000000000000001")}
    assert [type(value) for value in details.values()] == [type(None), bool, int, float, Decimal]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"customer_id": " "}, "customer_id is empty"),
        ({"customer_id": None}, "customer_id is NoneType"),
        ({"customer_id": True}, "customer_id is bool"),
        ({"currency": "US"}, "currency 'US' is not a currency"),
        ({"currency": None}, "currency None is not a currency"),
        ({"line_items": []}, "line_items is empty"),
        ({"line_items": None}, "line_items is empty"),
        ({"line_items": [{"invoiceId": 1}]}, "line_items holds dict"),
        ({"details": None}, "details is not a mapping"),
        ({"details": {1: 2}}, "details is not a mapping"),
        ({"payer_name": 1.5}, "payer_name is float"),
        ({"processing_status": 0}, "processing_status 0 is not allowed"),
        ({"processing_status": True}, "processing_status True"),
        ({"processing_status": "3"}, "processing_status '3'"),
        ({"channel_id": "1"}, "channel_id must be a whole number of at least 1, not '1'"),
        ({"channel_id": True}, "channel_id must be a whole number of at least 1, not True"),
        ({"channel_id": 0}, "channel_id must be a whole number of at least 1, not 0"),
        ({"funding_status": 4}, "funding_status 4 is unknown"),
        ({"funding_status": "2"}, "funding_status '2' is unknown"),
    ],
)
def test_the_error_names_a_wrong_field(fields: dict[str, Any], sentence: str) -> None:
    """An invalid value is refused when the payment is built, and the error names its field."""
    with pytest.raises(ConfigurationError, match=sentence):
        offline(**fields)


HALF = "Zo\udceb"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"customer_id": HALF}, "customer_id cannot be sent: its character 3 is half of a surrogate pair"),
        ({"currency": "US\ud800"}, "is not a currency"),
        ({"external_id": HALF}, "external_id cannot be sent"),
        ({"external_customer_id": HALF}, "external_customer_id cannot be sent"),
        ({"payer_name": HALF}, "payer_name cannot be sent"),
        ({"payer_customer_id": HALF}, "payer_customer_id cannot be sent"),
        ({"details": {"memo": HALF}}, r"details\.memo cannot be sent"),
        ({"details": {HALF: 1}}, r"a key in details cannot be sent"),
        ({"details": {"a": [{"b c": {HALF: 1}}]}}, r"a key in details\.a\[0\]\['b c'\] cannot be sent"),
        ({"details": {"a": [1, (HALF,)]}}, r"details\.a\[1\]\[0\] cannot be sent"),
        ({"details": {"a": float("nan")}}, r"details\.a is not a finite number"),
        ({"details": {"a": [float("-inf")]}}, r"details\.a\[0\] is not a finite number"),
        ({"details": {"a": Decimal("sNaN")}}, r"details\.a is not a finite number"),
        ({"details": {"a": Decimal("Infinity")}}, r"details\.a is not a finite number"),
        ({"details": {"a": 10**5000}}, r"details\.a is a number with too many digits"),
        ({"details": {"a": {1, 2}}}, r"details\.a is set, which cannot be stored in JSON"),
        ({"details": {"a": b"x"}}, r"details\.a is bytes, which cannot be stored in JSON"),
        ({"details": {"a": datetime.now(UTC)}}, r"details\.a is datetime, which cannot be stored in JSON"),
        ({"details": {"a": {1: 2}}}, r"details\.a has a key that is int, not text"),
        ({"external_id": 10**5000}, "external_id is int, not text"),
        ({"channel_id": 10**5000}, "channel_id must be a whole number"),
    ],
)
def test_the_error_has_the_path_of_what_cannot_be_sent(fields: dict[str, Any], sentence: str) -> None:
    """Text that UTF-8 cannot encode and values that JSON cannot represent are refused, with their path."""
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        offline(**fields)
    assert HALF not in str(caught.value)
    assert caught.value.__context__ is None or not isinstance(caught.value.__context__, UnicodeError)


def test_endlessly_nested_details_are_refused() -> None:
    """Details that contain themselves are refused, as are more than 100 levels."""
    endless: dict[str, Any] = {}
    endless["self"] = endless
    with pytest.raises(ConfigurationError, match="is nested too deeply: at most 100 levels are allowed"):
        offline(details=endless)


def test_details_are_a_copy() -> None:
    """Changing the caller's dict later does not change the payment, whose own dict is checked again."""
    details: dict[str, Any] = {
        "memo": ["Cash"],
        "rate": Decimal("0.10"),
        "many": Decimal("1.00000000000000000001"),
    }
    built = offline(details=details)
    details["memo"].append(float("nan"))
    assert offline_payment_body(built)["details"] == {
        "memo": ["Cash"], "rate": 0.1, "many": Decimal("1.00000000000000000001")
    }  # fmt: skip
    built.details["memo"].append(object())
    with pytest.raises(ConfigurationError, match=r"details\.memo\[1\] is object"):
        offline_payment_body(built)
    with pytest.raises(ConfigurationError, match="payment is dict: give an OfflinePayment"):
        offline_payment_body({"customerId": "1"})  # type: ignore[arg-type]


def test_an_invoice_is_a_number() -> None:
    """The id of an invoice is an int of at least 1, as everywhere."""
    for wrong in (True, "13", None, 0, -13):
        with pytest.raises(ConfigurationError, match="invoice_id must be a whole number of at least 1"):
            OfflineLineItem(wrong, 1)  # type: ignore[arg-type]
