"""Payments for the tests of code that uses this library.

The package also installs the pytest fixtures `payments_sandbox`, `payments_client` and
`payments_aioresponses`: see docs/testing.md.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from b2b_payments._models import LineItem, Money, Payment, ProcessingStatus
from b2b_payments._models.decimals import EXACT

__all__ = ["make_payment"]

_CREATED = datetime(2024, 5, 1, 12, tzinfo=UTC)


def make_payment(**fields: Any) -> Payment:
    """Return a payment with these fields, named as in `Payment`, and plausible values for the others.

    The default is a completed offline payment of 20 USD for one invoice. Omitted fields are derived from the
    passed ones: `total` from `line_items` and vice versa, `updated_at` from `created_at`. Raises TypeError
    for an unknown field.
    """
    defaults: dict[str, Any] = {
        "id": 1,
        "created_at": _CREATED,
        "updated_at": fields.get("created_at", _CREATED),
        "store_hash": "abc123",
        "customer_id": "95000",
        "payer_name": "Store offline payment",
        "payer_customer_id": fields.get("customer_id", "95000"),
        "module_name": "payments_offline",
        "processing_status": ProcessingStatus.COMPLETED,
        "applied_status": 1,
        "funding_status": 2,
        "customer_name": "Acme Industrial",
        "channel_id": 1,
        "channel_name": "Main store",
    }
    total = fields.get("total") or _sum(fields.get("line_items", ())) or Money("USD", Decimal("20.0000"))
    line = LineItem(payment_id=fields.get("id", 1), invoice_id=13, invoice_number="INV-000013", amount=total)
    return Payment(**{**defaults, "total": total, "line_items": [line], **fields})


def _sum(items: Any) -> Money | None:
    amounts = [item.amount for item in items if item.amount is not None]
    total = Decimal(0)
    for amount in amounts:
        total = EXACT.add(total, amount.amount)
    return Money(amounts[0].currency, total) if amounts else None
