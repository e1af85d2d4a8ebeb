"""The service's JSON data to models, and back."""

from __future__ import annotations

from b2b_payments._converter.structuring import (
    from_wire,
    offline_payment_body,
    structure_channel,
    structure_channels,
    structure_operations,
    structure_payment,
    structure_payments,
    structure_rows,
    structure_transactions,
    to_dict,
    to_wire,
)

__all__ = [
    "from_wire",
    "offline_payment_body",
    "structure_channel",
    "structure_channels",
    "structure_operations",
    "structure_payment",
    "structure_payments",
    "structure_rows",
    "structure_transactions",
    "to_dict",
    "to_wire",
]
