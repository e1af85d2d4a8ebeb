"""A payment made outside the service, which a caller records or changes."""

# Not every caller uses a type checker: converters check what their types exclude.
# mypy: disable-error-code="redundant-expr"

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, cast

import attrs

from b2b_payments._errors import ConfigurationError, shown
from b2b_payments._models.decimals import is_whole
from b2b_payments._models.description import DIGITS
from b2b_payments._models.enums import ProcessingStatus
from b2b_payments._models.money import exact_amount
from b2b_payments._models.plain_data import checked_data, checked_text
from b2b_payments._printable import frozen

_CURRENCY = re.compile(r"[A-Za-z]{3}")


def _as_text(value: str | int) -> str:
    """Convert an int to its digits; the validators check everything else."""
    is_id = isinstance(value, int) and not isinstance(value, bool) and is_whole(int(value))
    return str(int(value)) if is_id else cast("str", value)


def _optional_text(value: str | int | None) -> str | None:
    return None if value is None else _as_text(value)


def _check_text(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise ConfigurationError(
            f"{field.name} is {type(value).__name__}, not text: give a string or an int."
        )
    checked_text(field.name, value)


def _check_customer(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        problem = "empty" if isinstance(value, str) else type(value).__name__
        raise ConfigurationError(f"{field.name} is {problem}: give the id of the B2B company that pays.")
    checked_text(field.name, value)


def _check_optional_id(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        _check_id(_, field, value)


def _check_id(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if not is_whole(value) or value < 1:
        raise ConfigurationError(f"{field.name} must be a whole number of at least 1, not {shown(value)}.")


def _check_funding_status(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not (is_whole(value) and 0 <= value <= 3):
        raise ConfigurationError(
            f"{field.name} {shown(value)} is unknown: give 0, 1, 2 or 3, or leave it out."
        )


def _processing_status(value: ProcessingStatus | int | None) -> ProcessingStatus | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 4:
        raise ConfigurationError(
            f"processing_status {shown(value)} is not allowed: give ProcessingStatus."
            "AWAITING_PROCESSING, PROCESSING, COMPLETED or REFUNDED (1 to 4), or leave it out."
        )
    return ProcessingStatus(value)


def _currency(value: str) -> str:
    if not isinstance(value, str) or not _CURRENCY.fullmatch(value):
        raise ConfigurationError(
            f"currency {shown(value)} is not a currency: give a three-letter code such as 'USD'."
        )
    return value.upper()


def _details(value: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ConfigurationError(
            "details is not a mapping of names: give a dict such as {'memo': 'Paid in cash'}."
        )
    copy: Mapping[str, Any] = checked_data("details", value)
    return copy


def _line_items(value: Iterable[OfflineLineItem]) -> tuple[OfflineLineItem, ...]:
    items = tuple(value) if isinstance(value, Iterable) else ()
    if not items:
        raise ConfigurationError(
            "line_items is empty: give an OfflineLineItem for each invoice that is paid."
        )
    for item in items:
        if not isinstance(item, OfflineLineItem):
            raise ConfigurationError(
                f"line_items holds {type(item).__name__}: give OfflineLineItem(13, Decimal('20.00'))."
            )
    return items


@frozen
class OfflineLineItem:
    """The part of an offline payment that is applied to one invoice.

    `amount` is a Decimal, an int or digits in a string, never a float; its digits are sent unchanged.
    Raises `ConfigurationError` for an invalid value.
    """

    invoice_id: int = attrs.field(validator=_check_id)
    amount: Decimal = attrs.field(converter=exact_amount, metadata=DIGITS)


@frozen
class OfflinePayment:
    """An offline payment to record, or its new state. A field that is None is not sent.

    The service's defaults for fields that are not sent [doc]: `payer_name` "Store offline payment",
    `payer_customer_id` the customer's id, `processing_status` COMPLETED, `funding_status` 2. `customer_id` is
    the B2B company's id, `channel_id` BigCommerce's. With an `external_id` of your own, the client can find
    the payment if the response is lost. Raises `ConfigurationError`, which names the field and the remedy.
    """

    customer_id: str = attrs.field(converter=_as_text, validator=_check_customer)
    currency: str = attrs.field(converter=_currency)
    line_items: tuple[OfflineLineItem, ...] = attrs.field(converter=_line_items)
    # The service requires this field, even if it is empty [doc].
    details: Mapping[str, Any] = attrs.field(
        factory=dict, converter=_details, hash=False, metadata={"always": True}
    )
    external_id: str | None = attrs.field(default=None, converter=_optional_text, validator=_check_text)
    external_customer_id: str | None = attrs.field(
        default=None, converter=_optional_text, validator=_check_text
    )
    payer_name: str | None = attrs.field(default=None, converter=_optional_text, validator=_check_text)
    payer_customer_id: str | None = attrs.field(default=None, converter=_optional_text, validator=_check_text)
    processing_status: ProcessingStatus | None = attrs.field(default=None, converter=_processing_status)
    channel_id: int | None = attrs.field(default=None, validator=_check_optional_id)
    funding_status: int | None = attrs.field(default=None, validator=_check_funding_status)
