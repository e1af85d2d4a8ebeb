"""Which changes make another version of a payment."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import attrs
import pytest

from b2b_payments import Payment, from_wire
from b2b_payments._changes.version import Version
from b2b_payments.sandbox import Store

WIRE = Store(payments=30).wire(12)


def stamp_of(**changed: Any) -> object:
    """Return the stamp of a payment with these fields changed in the wire format."""
    return Version.of(from_wire(Payment, WIRE | changed), b"").stamp


@pytest.mark.parametrize(
    "changed",
    [
        {"allowedOperations": [0, 1, 2]},
        {"allowedStatuses": []},
        {"customerName": "Another name"},
        {"channelName": "Another name"},
        {"aFieldOfTomorrow": 1},
        {"id": str(WIRE["id"])},
        {"total": WIRE["total"] | {"value": WIRE["total"]["value"] + "000"}},
        {"lineItems": [line | {"invoiceId": str(line["invoiceId"])} for line in WIRE["lineItems"]]},
        {"details": dict(reversed(WIRE["details"].items()))},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_the_same_version(changed: dict[str, Any]) -> None:
    """Allowed operations, names of others, unknown fields and formatting do not make another version."""
    assert stamp_of(**changed) == stamp_of()


@pytest.mark.parametrize(
    "changed",
    [
        {"updatedAt": WIRE["updatedAt"] + 1},
        {"payerName": "Another payer"},
        {"externalId": "another"},
        {"processingStatus": 4},
        {"fundingStatus": 1},
        {"details": {"memo": "another"}},
        {"moduleData": {"transactions": [1.5]}},
        {"total": WIRE["total"] | {"value": "0.01"}},
        {"lineItems": []},
        {"fees": [1.5]},
        {"channelId": "77"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_version(changed: dict[str, Any]) -> None:
    """Everything that the models know about the payment itself counts, also within one second."""
    assert stamp_of(**changed) != stamp_of()


def test_a_field_at_its_default_is_no_content() -> None:
    """A later release of the library that adds a field does not repeat payments that lack it."""
    payment = from_wire(Payment, WIRE)
    assert Version.of(attrs.evolve(payment, external_customer_id=None), b"").stamp == stamp_of(
        externalCustomerId=None
    )
    assert stamp_of(externalCustomerId=None) == stamp_of(externalCustomerId=None, fees=[])


def test_a_lone_surrogate() -> None:
    """Text that UTF-8 cannot encode is content like any other."""
    assert stamp_of(payerName="\ud83d") != stamp_of(payerName="\ud83e")


@pytest.mark.parametrize(
    "values", [(10**30, 10**30 + 1), [Decimal(f"1.{'1' * 500}{digit}") for digit in (1, 2)]]
)
def test_numbers_in_module_data(values: Sequence[object]) -> None:
    """Numbers that no float holds are content, and are told apart exactly, whatever their length."""
    one, other = ({"n": value} for value in values)
    assert stamp_of(moduleData=one) != stamp_of(moduleData=other)
