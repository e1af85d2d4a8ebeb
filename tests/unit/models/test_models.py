"""The models themselves: frozen, comparable, and careful with what callers give."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import attrs
import pytest

from b2b_payments._converter import offline_payment_body
from b2b_payments._errors import ConfigurationError
from b2b_payments._models import Channel, Money, OfflineLineItem, OfflinePayment, Payment, ProcessingStatus


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
    """A model cannot be changed, and equal models are one key of a set."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        payment().id = 2  # type: ignore[misc]
    assert len({payment(), payment(details={}), payment(payer_name="x")}) == 2


def test_a_moment_is_taken_to_utc() -> None:
    """A caller's aware datetime is taken to UTC, and a naive one is refused."""
    there = datetime(2026, 1, 2, 5, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    assert payment(created_at=there).created_at.tzinfo is UTC
    assert payment(created_at=there) == payment()
    assert Channel(id=1, channel_id=1, created_at=there).created_at == there
    for wrong in (datetime(2026, 1, 2), 1618800393):  # noqa: DTZ001
        with pytest.raises(ConfigurationError, match="not an aware datetime"):
            payment(created_at=wrong)
    for wrong in (
        datetime.min.replace(tzinfo=there.tzinfo),
        datetime.max.replace(tzinfo=timezone(-timedelta(1 / 24))),
    ):
        with pytest.raises(ConfigurationError, match="outside the years 1 to 9999"):
            payment(created_at=wrong)


def test_lists_become_tuples() -> None:
    """A payment built with lists holds tuples, so that it stays frozen."""
    assert payment(allowed_statuses=[1]).allowed_statuses == (ProcessingStatus.AWAITING_PROCESSING,)


@pytest.mark.parametrize("given", [Decimal("20.00"), "20.00"])
def test_an_amount_keeps_its_digits(given: Decimal | str) -> None:
    """An amount given as a Decimal or as text keeps its zeros."""
    assert str(OfflineLineItem(1, given).amount) == "20.00"


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
    """What no amount can be is refused with a sentence that says what to give."""
    with pytest.raises(ConfigurationError, match=sentence):
        OfflineLineItem(13, wrong)


def test_an_offline_payment_takes_numbers_for_ids() -> None:
    """A company's id may be given as a number, a status as a number, a currency in small letters."""
    made = offline(customer_id=113, processing_status=1, currency="eur", external_id=5, details={"memo": "m"})
    assert (made.customer_id, made.currency, made.external_id) == ("113", "EUR", "5")
    assert made.processing_status is ProcessingStatus.AWAITING_PROCESSING
    assert made.line_items == (OfflineLineItem(13, Decimal(20)),)


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
        ({"channel_id": "1"}, "channel_id is str"),
        ({"channel_id": True}, "channel_id is bool"),
        ({"funding_status": 4}, "funding_status 4 is unknown"),
        ({"funding_status": "2"}, "funding_status is str"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], sentence: str) -> None:
    """What cannot be sent is refused when it is given, with the field's name."""
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
        ({"channel_id": 10**5000}, "channel_id has too many digits"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_its_place(fields: dict[str, Any], sentence: str) -> None:
    """Text that no encoding holds, and what JSON does not know, is refused with the path to it."""
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        offline(**fields)
    assert HALF not in str(caught.value)
    assert caught.value.__context__ is None or not isinstance(caught.value.__context__, UnicodeError)


def test_details_without_end_are_refused() -> None:
    """Details that hold themselves, or are nested beyond all measure, are refused."""
    endless: dict[str, Any] = {}
    endless["self"] = endless
    with pytest.raises(ConfigurationError, match="is nested too deeply: at most 100 levels are allowed"):
        offline(details=endless)


def test_details_are_a_copy() -> None:
    """What a program changes in its dict afterwards is not in the payment, and ours is checked again."""
    given: dict[str, Any] = {
        "memo": ["Cash"],
        "rate": Decimal("0.10"),
        "many": Decimal("1.00000000000000000001"),
    }
    made = offline(details=given)
    given["memo"].append(float("nan"))
    assert offline_payment_body(made)["details"] == {
        "memo": ["Cash"], "rate": 0.1, "many": Decimal("1.00000000000000000001")
    }  # fmt: skip
    made.details["memo"].append(object())
    with pytest.raises(ConfigurationError, match=r"details\.memo\[1\] is object"):
        offline_payment_body(made)
    with pytest.raises(ConfigurationError, match="payment is dict: give an OfflinePayment"):
        offline_payment_body({"customerId": "1"})  # type: ignore[arg-type]


def test_an_invoice_is_a_number() -> None:
    """An invoice's id that is not a number is refused."""
    for wrong in (True, "13", None):
        with pytest.raises(ConfigurationError, match="invoice_id is"):
            OfflineLineItem(wrong, 1)  # type: ignore[arg-type]
