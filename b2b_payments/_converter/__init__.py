"""The service's JSON data to models, and back."""

from __future__ import annotations

from b2b_payments._converter.normal import NormalItem, NormalMoney, NormalRow
from b2b_payments._converter.structuring import (
    from_wire,
    normal_rows,
    offline_payment_body,
    structure,
    structure_list,
    structure_payment,
    structure_payments,
    structure_rows,
    to_wire,
)
from b2b_payments._models.answer_model import to_dict

__all__ = [
    "NormalItem",
    "NormalMoney",
    "NormalRow",
    "from_wire",
    "normal_rows",
    "offline_payment_body",
    "structure",
    "structure_list",
    "structure_payment",
    "structure_payments",
    "structure_rows",
    "to_dict",
    "to_wire",
]
