"""Offline payments: validates the body of a request and converts it to a payment's fields."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from b2b_payments.sandbox._data import OFFLINE, company_name, money, operations
from b2b_payments.sandbox._listing import InvalidFieldsError
from b2b_payments.sandbox._table import Row

_REQUIRED: Final = ("lineItems", "currency", "details", "customerId")
_TEXTS: Final = ("customerId", "externalId", "externalCustomerId", "payerName", "payerCustomerId")
_LARGEST: Final = Decimal(10**12)


def read_offline_payment(body: Any, channels: Collection[int], *, line_by_line: bool = False) -> Row:
    """Return a payment's fields from the body of a create or an update, with the documented defaults.

    Raises `InvalidFieldsError` with the service's messages by field. If `line_by_line`, the messages about
    line items are a list with one entry per line item.
    """
    if not isinstance(body, dict):
        raise InvalidFieldsError({"body": ["Must be an object."]})
    errors: dict[str, Any] = {
        name: ["Missing data for required field."] for name in _REQUIRED if name not in body
    }
    for name, value in body.items():
        if (problem := _problem(name, value, channels)) is not None:
            errors[name] = [problem]
    if line_by_line and "lineItems" in errors and isinstance(lines := body.get("lineItems"), list) and lines:
        errors["lineItems"] = list(map(_problems_of, lines))
    if errors:
        raise InvalidFieldsError(errors)
    return _fields(body)


def whole_number(value: Any, least: int, most: int) -> int | None:
    """Return a number that the service accepts as 2 and as "2", or None if it is neither."""
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value[:9])
    return value if type(value) is int and least <= value <= most else None


def _problem(name: str, value: Any, channels: Collection[int]) -> str | None:
    if name in _TEXTS:
        is_valid, expected = (
            isinstance(value, str) and (name != "customerId" or value != ""),
            "Not a valid string.",
        )
    elif name == "processingStatus":
        is_valid, expected = whole_number(value, 1, 4) is not None, "Must be one of: 1, 2, 3, 4."
    elif name == "fundingStatus":
        is_valid, expected = whole_number(value, 0, 3) is not None, "Must be one of: 0, 1, 2, 3."
    elif name == "channelId":
        is_valid, expected = type(value) is int and value in channels, "Not a channel of this store."
    elif name == "currency":
        is_valid = isinstance(value, str) and len(value) == 3 and value.isascii() and value.isupper()
        expected = "Must be a currency code of three letters."
    elif name == "details":
        is_valid, expected = isinstance(value, dict), "Must be an object."
    elif name == "lineItems":
        is_valid = isinstance(value, list) and value != [] and all(map(_is_line, value))
        expected = "Must be a list of at least one {invoiceId: integer, amount: decimal as string}."
    else:
        return None
    return None if is_valid else expected


def _is_line(line: Any) -> bool:
    return not _problems_of(line)


def _problems_of(line: Any) -> dict[str, list[str]] | list[str]:
    if not isinstance(line, dict):
        return ["Must be an object."]
    problems = {}
    if type(line.get("invoiceId")) is not int or line["invoiceId"] < 1:
        problems["invoiceId"] = ["Must be an integer of at least 1."]
    if _amount(line.get("amount")) is None:
        problems["amount"] = ["Must be a decimal as string."]
    return problems


def _amount(text: Any) -> int | None:
    """Return an amount in ten-thousandths of the currency's unit, or None if it is invalid."""
    if not isinstance(text, str):
        return None
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return None
    if not amount.is_finite() or not 0 <= amount < _LARGEST or amount * 10_000 % 1:
        return None
    return int(amount * 10_000)


def _fields(body: dict[str, Any]) -> Row:
    customer, currency = body["customerId"], body["currency"]
    status = whole_number(body.get("processingStatus", 3), 1, 4) or 3
    amounts = [_amount(line["amount"]) or 0 for line in body["lineItems"]]
    fields: Row = {
        "customerId": customer,
        "externalId": body.get("externalId"),
        "externalCustomerId": body.get("externalCustomerId"),
        "payerName": body.get("payerName", "Store offline payment"),
        "payerCustomerId": body.get("payerCustomerId", customer),
        "details": body["details"],
        "moduleName": OFFLINE,
        "fees": [],
        "moduleData": {
            "transactions": [
                {
                    "memo": str(body["details"].get("memo", "")),
                    "type": "OfflineTransaction",
                    "rawTransaction": None,
                }
            ]
        },
        "processingStatus": status,
        "appliedStatus": 0,
        "fundingStatus": whole_number(body.get("fundingStatus", 2), 0, 3),
        "total": money(currency, sum(amounts)),
        "lineItems": [
            {
                "invoiceId": line["invoiceId"],
                "invoiceNumber": f"INV-{line['invoiceId']:06d}",
                "amount": money(currency, amount),
            }
            for line, amount in zip(body["lineItems"], amounts, strict=True)
        ],
        "customerName": company_name(customer),
        "allowedOperations": operations(OFFLINE, status, 0),
        "allowedStatuses": ["1", "2", "3", "4"],
    }
    return fields
