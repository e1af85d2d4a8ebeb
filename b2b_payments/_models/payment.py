"""A payment of invoices, as the service returns it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import attrs

from b2b_payments._models.answer_model import AnswerModel
from b2b_payments._models.description import DERIVED, DIGITS
from b2b_payments._models.enums import OperationCode, StatusCode
from b2b_payments._models.extra import Extra, extra_of
from b2b_payments._models.moment import in_utc
from b2b_payments._models.money import Money, exact_amount
from b2b_payments._printable import frozen


def _operations(codes: Iterable[OperationCode]) -> tuple[OperationCode, ...]:
    return tuple(codes)


def _statuses(codes: Iterable[StatusCode]) -> tuple[StatusCode, ...]:
    return tuple(codes)


def _fees(fees: Iterable[Fee]) -> tuple[Fee, ...]:
    return tuple(fees)


def _line_items(items: Iterable[LineItem]) -> tuple[LineItem, ...]:
    return tuple(items)


def _optional_amount(amount: Decimal | int | str | None) -> Decimal | None:
    return None if amount is None else exact_amount(amount)


@frozen
class LineItem(AnswerModel):
    """The part of a payment that is applied to one invoice. Lists may leave `amount` out [doc]."""

    payment_id: int | None = None
    invoice_id: int | None = None
    invoice_number: str = ""
    amount: Money | None = None
    extra: Extra = attrs.field(factory=Extra, converter=extra_of, hash=False)


@frozen
class Fee(AnswerModel):
    """A fee on a payment. `amount` has no currency [doc], and may be the only field that is sent."""

    type: str = ""
    description: str = ""
    amount: Decimal | None = attrs.field(default=None, converter=_optional_amount)
    extra: Extra = attrs.field(factory=Extra, converter=extra_of, hash=False)


@frozen
class PaymentOperations(AnswerModel):
    """The operations and statuses that a payment currently allows. A code unknown to its enum is an int."""

    allowed_operations: tuple[OperationCode, ...] = attrs.field(default=(), converter=_operations)
    allowed_statuses: tuple[StatusCode, ...] = attrs.field(default=(), converter=_statuses)
    extra: Extra = attrs.field(factory=Extra, converter=extra_of, hash=False)


@frozen(kw_only=True)
class Payment(AnswerModel):
    """A payment.

    - `created_at` and `updated_at` are aware, in UTC; the service counts whole seconds. Digits beyond
      microseconds, the most that a datetime holds, are cut.
    - `customer_id` is the B2B company's id. Other strings are ``""`` if the service sends null or nothing;
      only those that may be None distinguish null from ``""``.
    - `details` (usually ``{"memo": …}``) and `module_data` are kept as received; numbers in them that no
      float holds exactly are Decimals.
    - `applied_status` and `funding_status` are numbers whose meaning is not published [open].
    - `fees`, `details`, `module_data` and the `allowed_*` fields are empty if a list leaves them out [doc].
    - `channel_id` is BigCommerce's id of the channel, or None if the store has only one.
    - `extra` has the fields that this library does not know, by wire name.
    """

    id: int
    created_at: datetime = attrs.field(converter=in_utc)
    updated_at: datetime = attrs.field(converter=in_utc)
    store_hash: str = ""
    customer_id: str
    external_id: str | None = None
    external_customer_id: str | None = None
    payer_name: str = ""
    payer_customer_id: str = ""
    details: Mapping[str, Any] = attrs.field(factory=dict, hash=False)
    module_name: str = ""
    fees: tuple[Fee, ...] = attrs.field(default=(), converter=_fees, metadata={"bare": "amount"})
    module_data: Mapping[str, Any] = attrs.field(factory=dict, hash=False)
    processing_status: StatusCode
    applied_status: int
    funding_status: int
    total: Money
    line_items: tuple[LineItem, ...] = attrs.field(default=(), converter=_line_items)
    customer_name: str = attrs.field(default="", metadata=DERIVED)
    allowed_operations: tuple[OperationCode, ...] = attrs.field(
        default=(), converter=_operations, metadata=DERIVED
    )
    allowed_statuses: tuple[StatusCode, ...] = attrs.field(default=(), converter=_statuses, metadata=DERIVED)
    channel_id: int | None = attrs.field(default=None, metadata=DIGITS)
    channel_name: str | None = attrs.field(default=None, metadata=DERIVED)
    extra: Extra = attrs.field(factory=Extra, converter=extra_of, hash=False)
