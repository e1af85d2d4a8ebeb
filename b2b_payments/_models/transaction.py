"""A payment's transactions at a gateway."""

from __future__ import annotations

from typing import Any

import attrs

from b2b_payments._models.answer_model import AnswerModel
from b2b_payments._models.description import LENIENT
from b2b_payments._models.extra import Extra, extra_of
from b2b_payments._printable import frozen


@frozen
class Card(AnswerModel):
    """A card, with the fields that the gateway discloses."""

    type: str | None = attrs.field(default=None, metadata=LENIENT)
    last4: str | None = attrs.field(default=None, metadata=LENIENT)
    expiry_year: int | None = attrs.field(default=None, metadata=LENIENT)
    expiry_month: int | None = attrs.field(default=None, metadata=LENIENT)
    extra: Extra = attrs.field(factory=Extra, converter=extra_of, hash=False)


@frozen
class Transaction(AnswerModel):
    """One transaction of a payment.

    Its shape varies by gateway [doc]: `type` is ``"OfflineTransaction"``, ``"CreditCardTransaction"``,
    ``"UnknownTransaction"`` or another, any other field may be None, and `raw_transaction` is the gateway's
    own data: None, a string, a list or an object. A field of an unexpected type is None here; `to_wire`
    still returns it as received.
    """

    type: str | None = attrs.field(default=None, metadata=LENIENT)
    memo: str | None = attrs.field(default=None, metadata=LENIENT)
    gateway: str | None = attrs.field(default=None, metadata=LENIENT)
    transaction_id: str | None = attrs.field(default=None, metadata=LENIENT)
    auth_code: str | None = attrs.field(default=None, metadata=LENIENT)
    event: str | None = attrs.field(default=None, metadata=LENIENT)
    card: Card | None = attrs.field(default=None, metadata=LENIENT)
    raw_transaction: Any = attrs.field(default=None, hash=False)
    extra: Extra = attrs.field(factory=Extra, converter=extra_of, hash=False)
