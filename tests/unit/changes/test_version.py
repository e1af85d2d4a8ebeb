"""What makes two payments the same version."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from b2b_payments import Payment, from_wire
from b2b_payments._changes.version import Version
from b2b_payments.sandbox import Store

WIRE = Store(payments=30).wire(12)


def stamp_of(**changed: Any) -> object:
    """Return the stamp of one payment with these fields on the wire."""
    return Version.of(from_wire(Payment, WIRE | changed)).stamp


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
    """What is only allowed now, names of others, unknown fields and spellings make no other version."""
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
    """Whatever the models know of a payment itself tells its versions apart, within one second too."""
    assert stamp_of(**changed) != stamp_of()


def test_a_field_that_a_later_version_knows() -> None:
    """A field that is at its default is no content: a library that comes to know it repeats no payment."""
    payment = from_wire(Payment, WIRE)
    assert Version.of(attrs.evolve(payment, external_customer_id=None)).stamp == stamp_of(
        externalCustomerId=None
    )
    assert stamp_of(externalCustomerId=None) == stamp_of(externalCustomerId=None, fees=[])


def test_half_of_a_surrogate_pair() -> None:
    """Text that UTF-8 does not hold is content like any other."""
    assert stamp_of(payerName="\ud83d") != stamp_of(payerName="\ud83e")


def test_numbers_in_module_data() -> None:
    """Numbers that no float holds are content, and told apart."""
    one, other = ({"n": value} for value in (10**30, 10**30 + 1))
    assert stamp_of(moduleData=one) != stamp_of(moduleData=other)
