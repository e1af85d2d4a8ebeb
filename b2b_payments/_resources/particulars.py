"""What tells one payment from another of the same external id."""

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
    """What payments have to agree in to be taken for one and the same."""

    customer_id: str
    currency: str
    sum: Decimal

    @classmethod
    def of_body(cls, body: Mapping[str, Any]) -> Particulars:
        """Return those of a payment that is to be created: the sum is that of its line items."""
        total = Decimal(0)
        for item in body["lineItems"]:
            total = EXACT.add(total, Decimal(str(item["amount"])))
        return cls(str(body["customerId"]), body["currency"], total)

    @classmethod
    def of(cls, payment: Payment) -> Particulars:
        """Return those of a listed payment: its sum is its total, as amounts may be left out."""
        return cls(payment.customer_id, payment.total.currency, payment.total.amount)

    def differences(self, wanted: Particulars) -> dict[str, tuple[str, str]]:
        """Return each field in which these are not what is wanted, with both values."""
        mine, others = attrs.asdict(self), attrs.asdict(wanted)
        return {name: (str(mine[name]), str(others[name])) for name in mine if mine[name] != others[name]}
