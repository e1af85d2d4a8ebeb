"""The description that models carry of themselves."""

from __future__ import annotations

from b2b_payments._models import Channel, Fee, LineItem, Money, Payment, ProcessingStatus, Transaction
from b2b_payments._models.description import FieldKind, fields_of, wire_names


def test_kinds_and_wire_names_follow_from_the_models() -> None:
    """A field's wire name and kind come from its name and its type, unless its metadata says otherwise."""
    found = {field.name: field for field in fields_of(Payment)}
    assert "extra" not in found
    assert not any(name.startswith("_") for name in found)
    assert (found["created_at"].wire, found["created_at"].kind) == ("createdAt", FieldKind.MOMENT)
    assert (found["fees"].kind, found["fees"].of) == (FieldKind.MODELS, Fee)
    assert (found["line_items"].kind, found["line_items"].of) == (FieldKind.MODELS, LineItem)
    assert (found["total"].kind, found["total"].of) == (FieldKind.MODEL, Money)
    assert (found["processing_status"].kind, found["processing_status"].of) == (
        FieldKind.CODE,
        ProcessingStatus,
    )
    assert found["allowed_statuses"].kind is FieldKind.CODES
    assert found["details"].kind is FieldKind.OBJECT
    assert found["channel_id"].digits
    assert [(field.wire, field.required) for field in fields_of(Money)] == [("code", False), ("value", True)]


def test_what_must_be_there_follows_from_the_models() -> None:
    """A field without a default is required, and only one whose type says so may be None."""
    assert {field.wire for field in fields_of(Payment) if field.required} == {
        "id", "createdAt", "updatedAt", "customerId", "processingStatus", "appliedStatus", "fundingStatus",
        "total",
    }  # fmt: skip
    assert {field.name for field in fields_of(Payment) if field.nullable} == {
        "external_id", "external_customer_id", "channel_id", "channel_name",
    }  # fmt: skip
    assert not any(field.required for field in fields_of(Transaction))
    assert [field.aliases for field in fields_of(Channel) if field.aliases] == [("channelName",)]


def test_wire_names_are_the_services() -> None:
    """Who reads a part of a row takes the names from the model: its own where it says one, else camelCase."""
    assert wire_names(Money) == {"currency": "code", "amount": "value"}
    assert wire_names(Payment)["created_at"] == "createdAt"
