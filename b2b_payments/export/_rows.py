"""Payments as rows: the service's objects, each field in one spelling, in structs for msgspec.

Written as a line of JSON, a row is read again without checks. What has no column of its own is JSON text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, Inexact, InvalidOperation
from operator import attrgetter
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET

from b2b_payments._converter import structure_payment
from b2b_payments._errors import ExportError, ResponseDecodeError
from b2b_payments._models import LineItem, Money, Payment
from b2b_payments._models.decimals import EXACT
from b2b_payments._protocol.json import decode_part, encode
from b2b_payments.export._columns import DIGITS, PAYMENTS, SCALE, Column, Kind, Row

WHOLE: Final = range(-(2**63), 2**63)
_LEAST: Final = Decimal(f"1E-{SCALE}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
OBJECTS: Final = ("details", "module_data")
CODES: Final = ("allowed_operations", "allowed_statuses")

Text = str | Annotated[int, msgspec.Meta(ge=WHOLE[0], le=WHOLE[-1])]
"""The service sends some ids as numbers, and some numbers as text."""


class MoneyRow(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """An amount of money."""

    code: str
    value: str


class ItemRow(msgspec.Struct, gc=False, forbid_unknown_fields=True, rename="camel"):
    """A line item. `extra` has a name that the service cannot use: it is made here."""

    payment_id: Text | None = None
    invoice_id: Text | None = None
    invoice_number: Text | None = None
    amount: MoneyRow | None = None
    extra: Any = msgspec.field(default=UNSET, name="+")


_TYPES: Final[dict[Kind, Any]] = {
    Kind.INTEGER: Text,
    Kind.TEXT: Text,
    Kind.MOMENT: int,
    Kind.MONEY: MoneyRow,
    Kind.JSON: dict[str, Any] | list[Any] | str,
}


def row_type(unknown: Sequence[str] = ()) -> type[Any]:
    """Make the struct of a payment, with room for unknown fields of these names."""
    fields = [*map(_field, PAYMENTS.columns), ("line_items", tuple[ItemRow, ...] | None, None)]
    wire = {name: re.sub("_(.)", lambda match: match[1].upper(), name) for name, *_ in fields}
    wire["extra"] = "+"
    fields = [field for field in fields if field[0] != "currency"]  # within total
    fields += [(f"unknown{place}", Any, UNSET) for place in range(len(unknown))]
    wire |= {f"unknown{place}": name for place, name in enumerate(unknown)}
    made: type[Any] = msgspec.defstruct(
        "PaymentRow", fields, kw_only=True, rename=wire, gc=False, forbid_unknown_fields=True
    )
    return made


def _field(column: Column) -> tuple[Any, ...]:
    type_: Any = _TYPES[column.kind]
    if column.name in CODES:
        type_ = tuple[Text, ...] | str
    if column.required:
        return column.name, type_
    return column.name, type_ | None, UNSET if column.name == "extra" else None


PaymentRow = row_type()
lines_of: Final = msgspec.json.Encoder().encode_lines
rows_of_lines: Final = msgspec.json.Decoder(PaymentRow).decode_lines
"""Read rows back from the lines of `lines_of`."""

_PLACES: Final = {"total": "total.value", "currency": "total.code"}
cells_of: Final = attrgetter(*[_PLACES.get(name, name) for name in PAYMENTS.names])
"""Give a row's cells in the order of the table's columns."""


def items_of(row: Any) -> list[Row]:
    """Give the cells of a row's line items."""
    return [
        (row.id, place, item.invoice_id, item.invoice_number, *_amount_of(item.amount), item.extra)
        for place, item in enumerate(row.line_items)
    ]


def _amount_of(amount: MoneyRow | None) -> tuple[str | None, str | None]:
    return (None, None) if amount is None else (amount.value, amount.code)


class ModelRows:
    """Makes rows of payments by way of their models: every tolerance, at a model's cost.

    If `decimal`, amounts have to fit into a decimal column; if `whole`, numbers into 64 bits. Raises
    ExportError for one that does not, and ResponseDecodeError for a payment that cannot be read.
    """

    def __init__(self, *, decimal: bool = False, whole: bool = False) -> None:
        self._decimal = decimal
        self._whole = whole

    def row(self, sent: bytes | msgspec.Raw) -> Any:
        """Read a payment, as it was sent."""
        try:
            raw: Any = decode_part(sent)
        except ResponseDecodeError as error:
            raise ResponseDecodeError(f"payment {_id_of(sent)}: {error}", paths=error.paths) from None
        return self._row_of(structure_payment(raw, f"payment {raw.get('id')}: $"), raw)

    def _row_of(self, payment: Payment, raw: Mapping[str, Any]) -> Any:
        values = {column.name: self._value(column, payment) for column in PAYMENTS.columns}
        del values["currency"]
        values |= {name: encode(list(map(int, getattr(payment, name)))).decode() for name in CODES}
        values["fees"] = encode(raw["fees"]).decode() if payment.fees else "[]"
        # In the order of the names, as usual rows have it.
        values["extra"] = _extra(dict(sorted(payment.extra.items())), "total", payment.total)
        items = tuple([self._item_of(payment, item) for item in payment.line_items])
        return PaymentRow(**values, line_items=items)

    def _value(self, column: Column, payment: Payment) -> Any:
        value = getattr(payment, column.name, None)
        if value is None:
            return None
        if column.kind is Kind.INTEGER:
            return self._integer(int(value), column.name, payment)
        if column.kind is Kind.MOMENT:
            return (value - _EPOCH) // _MICROSECOND
        if column.kind is Kind.MONEY:
            return self._money(value, column.name, payment)
        return encode(value).decode() if column.name in OBJECTS else value

    def _item_of(self, payment: Payment, item: LineItem) -> ItemRow:
        extra: Mapping[str, Any] = item.extra
        if item.payment_id not in {None, payment.id}:
            extra = {**extra, "paymentId": item.payment_id}
        number = item.invoice_id
        return ItemRow(
            None,
            None if number is None else self._integer(number, "invoice_id", payment),
            item.invoice_number,
            None if item.amount is None else self._money(item.amount, "amount", payment),
            _extra(extra, "amount", item.amount),
        )

    def _integer(self, number: int, name: str, payment: Payment) -> int | str:
        if number in WHOLE:
            return number
        if self._whole:
            raise ExportError(_does_not_fit(payment, name, number, "64 bits"))
        return str(number)

    def _money(self, money: Money, name: str, payment: Payment) -> MoneyRow:
        amount: Decimal | None = money.amount
        if self._decimal:
            try:
                amount = money.amount.quantize(_LEAST, context=EXACT)
            except (Inexact, InvalidOperation):
                amount = None
            if amount is None or amount.adjusted() >= DIGITS - SCALE:
                place = f"a decimal of {DIGITS} digits, {SCALE} behind its point"
                raise ExportError(_does_not_fit(payment, name, money.amount, place))
        return MoneyRow(money.currency, f"{amount:f}")


class _Identified(msgspec.Struct):
    id: int | str | None = None


def _id_of(sent: bytes | msgspec.Raw) -> int | str | None:
    try:
        return msgspec.json.decode(sent, type=_Identified).id
    except ValueError:
        return None


def _extra(extra: Mapping[str, Any], name: str, money: Money | None) -> str:
    if money is not None and money.extra:
        extra = {**extra, name: money.extra}
    return encode(extra).decode() if extra else "{}"


def _does_not_fit(payment: Payment, name: str, value: object, place: str) -> str:
    return (
        f"{name} {value} of payment {payment.id} does not fit into {place}, and nothing is rounded here: "
        "export to jsonl or csv, which hold every digit."
    )
