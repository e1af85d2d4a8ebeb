"""A version of a payment: its id, its update time, and a digest of its content.

Two writes within one second have the same `updatedAt`, so the time alone does not tell versions apart. The
content is what the models know about the payment itself. It excludes the allowed operations and statuses and
the names of customers and channels, which change without the payment, and fields unknown to the models.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from hashlib import blake2b
from typing import Any, NamedTuple

import attrs

from b2b_payments._models import Payment
from b2b_payments._models.answer_model import AnswerModel
from b2b_payments._models.decimals import EXACT, decimal_text
from b2b_payments._models.description import fields_of
from b2b_payments._models.moment import microseconds_of
from b2b_payments._printable import frozen

_DIGEST_BYTES = 6
"""Enough to tell apart the versions of one payment that were written in the same second."""


class Stamp(NamedTuple):
    """The identity of a version. `updated` is in microseconds since 1970."""

    id: int
    updated: int
    digest: str


@frozen
class Version:
    """A payment as a list showed it: also as text; `updated` is in microseconds since 1970."""

    payment: Payment
    text: bytes = attrs.field(repr=False)
    updated: int

    @classmethod
    def of(cls, payment: Payment, text: bytes) -> Version:
        """Return the version of this payment."""
        return cls(payment, text, microseconds_of(payment.updated_at))

    @cached_property
    def stamp(self) -> Stamp:
        """The identity of the version, computed on first access."""
        content = json.dumps(_content(self.payment), sort_keys=True, default=_text).encode()
        digest = urlsafe_b64encode(blake2b(content, digest_size=_DIGEST_BYTES).digest()).decode()
        return Stamp(self.payment.id, self.updated, digest)


def _content(model: AnswerModel) -> dict[str, Any]:
    """Return a model's own fields, without those at their default: a field added by a later version of this
    library must not change the content of payments that lack it.
    """
    pairs = ((field, getattr(model, field.name)) for field in fields_of(type(model)) if not field.derived)
    return {field.name: value for field, value in pairs if not (field.has_default and value == field.empty())}


def _text(value: AnswerModel | Decimal | datetime) -> Any:
    if isinstance(value, AnswerModel):
        return _content(value)
    if isinstance(value, Decimal):
        with suppress(ArithmeticError):  # if it has more digits than any amount
            value = EXACT.normalize(value)  # 30.00 is the same amount as 30.0000
        return decimal_text(value)
    return microseconds_of(value)
