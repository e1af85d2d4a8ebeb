"""The field descriptions derived from the models."""

from __future__ import annotations

from b2b_payments._models import Channel, Fee, LineItem, Money, Payment, ProcessingStatus, Transaction
from b2b_payments._models.description import FieldKind, fields_of, wire_names


def test_kinds_and_wire_names_follow_from_the_models() -> None:
    """A field's wire name and kind come from its name and its type, unless its metadata says otherwise."""
    fields = {field.name: field for field in fields_of(Payment)}
    assert "extra" not in fields
    assert not any(name.startswith("_") for name in fields)
    assert (fields["created_at"].wire, fields["created_at"].kind) == ("createdAt", FieldKind.MOMENT)
    assert (fields["fees"].kind, fields["fees"].of) == (FieldKind.MODELS, Fee)
    assert (fields["line_items"].kind, fields["line_items"].of) == (FieldKind.MODELS, LineItem)
    assert (fields["total"].kind, fields["total"].of) == (FieldKind.MODEL, Money)
    assert (fields["processing_status"].kind, fields["processing_status"].of) == (
        FieldKind.CODE,
        ProcessingStatus,
    )
    assert fields["allowed_statuses"].kind is FieldKind.CODES
    assert fields["details"].kind is FieldKind.OBJECT
    assert fields["channel_id"].digits
    assert [(field.wire, field.required) for field in fields_of(Money)] == [("code", False), ("value", True)]


def test_required_and_nullable_fields_follow_from_the_models() -> None:
    """A field without a default is required, and only a field with an optional type may be None."""
    assert {field.wire for field in fields_of(Payment) if field.required} == {
        "id", "createdAt", "updatedAt", "customerId", "processingStatus", "appliedStatus", "fundingStatus",
        "total",
    }  # fmt: skip
    assert {field.name for field in fields_of(Payment) if field.nullable} == {
        "external_id", "external_customer_id", "channel_id", "channel_name",
    }  # fmt: skip
    assert not any(field.required for field in fields_of(Transaction))
    assert [field.aliases for field in fields_of(Channel) if field.aliases] == [("channelName",)]


def test_wire_names() -> None:
    """A wire name is the one in the field's metadata, or else the attribute's name in camelCase."""
    assert wire_names(Money) == {"currency": "code", "amount": "value"}
    assert wire_names(Payment)["created_at"] == "createdAt"
