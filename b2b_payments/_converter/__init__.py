"""Conversion of the service's JSON to models, and back."""

from __future__ import annotations

from b2b_payments._converter.columns import ColumnReader, Columns
from b2b_payments._converter.structuring import (
    decoded_page,
    from_wire,
    offline_payment_body,
    offline_payment_from,
    readable_fields,
    structure,
    structure_list,
    structure_payment,
    structure_rows,
    to_wire,
)
from b2b_payments._models.answer_model import to_dict

__all__ = [
    "ColumnReader",
    "Columns",
    "decoded_page",
    "from_wire",
    "offline_payment_body",
    "offline_payment_from",
    "readable_fields",
    "structure",
    "structure_list",
    "structure_payment",
    "structure_rows",
    "to_dict",
    "to_wire",
]
