"""The fields that decide whether two payments with the same external id are the same payment."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import attrs

from b2b_payments._models import Payment
from b2b_payments._models.decimals import EXACT
from b2b_payments._printable import frozen


@frozen
class Particulars:
    """The fields in which two payments must agree to count as the same one."""

    customer_id: str
    currency: str
    sum: Decimal

    @classmethod
    def of_body(cls, body: Mapping[str, Any]) -> Particulars:
        """Return the particulars of a create's body; the sum is the total of its line items."""
        total = Decimal(0)
        for item in body["lineItems"]:
            total = EXACT.add(total, Decimal(str(item["amount"])))
        return cls(str(body["customerId"]), body["currency"], total)

    @classmethod
    def of(cls, payment: Payment) -> Particulars:
        """Return the particulars of a payment; the sum is its total, since line items may have no amounts."""
        return cls(payment.customer_id, payment.total.currency, payment.total.amount)

    def differences(self, wanted: Particulars) -> dict[str, tuple[str, str]]:
        """Return each field that differs from the wanted one, with both values."""
        mine, theirs = attrs.asdict(self), attrs.asdict(wanted)
        return {name: (str(mine[name]), str(theirs[name])) for name in mine if mine[name] != theirs[name]}
