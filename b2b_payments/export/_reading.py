"""Reading payments into rows, at a fraction of what models cost.

A payment that is spelled in one of the service's usual ways is taken from its JSON; the tests hold that to
what its model says. Any other goes through its model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET

from b2b_payments._protocol.json import encode, exact_number
from b2b_payments.export._columns import DIGITS, PAYMENTS, SCALE, Kind
from b2b_payments.export._rows import CODES, OBJECTS, ModelRows, PaymentRow, row_type

_LAST_SECOND: Final = 253_402_300_799  # of the year 9999
_USUAL_FEE: Final = 1e15
_MOST_NAMES, _LONGEST_NAME = 200, 100  # of unknown fields: a service that makes names up costs no memory

# What a Decimal gives back the same, and a decimal column holds.
_is_amount: Final = re.compile(
    rf"-?(?:0|[1-9][0-9]{{0,{DIGITS - SCALE - 1}}})(?:\.[0-9]{{1,{SCALE}}})?"
).fullmatch
_is_number: Final = re.compile(r"0|-?[1-9][0-9]{0,17}").fullmatch

_encode_lines: Final = msgspec.json.Encoder(decimal_format="number").encode_lines

_Names = dict[str, msgspec.Raw]


class _Fee(msgspec.Struct):
    type: str | None = None
    description: str | None = None
    # Of a number of any other size, and of text, the model says whether it can be an amount.
    amount: Annotated[float, msgspec.Meta(gt=-_USUAL_FEE, lt=_USUAL_FEE)] | None = None


class RowReader:
    """Reads payments into rows; what it learns of unknown names, it keeps.

    If `decimal`, amounts have to fit into a decimal column; if `whole`, numbers into 64 bits. Methods raise
    ExportError for one that does not, and ResponseDecodeError for a payment that cannot be read.
    """

    def __init__(self, *, decimal: bool = False, whole: bool = False) -> None:
        self._models = ModelRows(decimal=decimal, whole=whole)
        self._unknown: tuple[str, ...] = ()
        self._compile()
        self._codes: dict[tuple[int | str, ...] | None, str] = {}
        self._settling: dict[str, Callable[[list[Any], set[int]], list[Any]]] = {
            column.name: _SETTLING[column.kind, column.nullable]
            for column in PAYMENTS.columns
            if (column.kind, column.nullable) in _SETTLING and column.name != "currency"
        }
        self._settling |= dict.fromkeys(OBJECTS, _object_texts) | {"fees": _fee_texts}
        self._settling |= dict.fromkeys(CODES, self._code_texts)
        self._usual = {column.name: _USUAL.get((column.kind, column.nullable)) for column in PAYMENTS.columns}

    def page(
        self, body: bytes, places: Sequence[int], cut: Callable[[], Sequence[bytes | msgspec.Raw]]
    ) -> list[Any]:
        """Read the payments at these places of a page; `cut` gives those alone, each as it was sent."""
        try:
            found = self._learning(body, page=True).data
        except (ValueError, ArithmeticError, RecursionError):
            return self.rows(cut())
        return self._settled([found[place] for place in places], cut)

    def rows(self, payments: Sequence[bytes | msgspec.Raw]) -> list[Any]:
        """Read payments, each as it was sent."""
        known: tuple[str, ...] | None = None
        while known is not self._unknown:  # once more where names were learned on the way
            known = self._unknown
            found = [self._tried(payment) for payment in payments]
        return self._settled(found, lambda: payments)

    def _tried(self, payment: bytes | msgspec.Raw) -> Any:
        try:
            return self._learning(payment, page=False)
        except (ValueError, ArithmeticError, RecursionError):
            return None

    def objects(self, payments: Iterable[Mapping[str, Any]]) -> list[Any]:
        """Read payments that are decoded already."""
        return self.rows([encode(payment) for payment in payments])

    def _compile(self) -> None:
        row = row_type(self._unknown)
        page = msgspec.defstruct("Page", [("data", list[row])])  # type: ignore[valid-type]
        self._row: Any = msgspec.json.Decoder(row, float_hook=exact_number)
        self._page: Any = msgspec.json.Decoder(page, float_hook=exact_number)
        self._extra_names = names = [f"unknown{place}" for place in range(len(self._unknown))]
        self._extra: Any = msgspec.defstruct(
            "Extra",
            [(name, Any, UNSET) for name in names],
            rename=dict(zip(names, self._unknown, strict=True)),
            gc=False,
        )
        # For a single name, attrgetter gives no tuple.
        self._extras = attrgetter(*names) if len(names) > 1 else lambda row: (row.unknown0,)

    def _learning(self, text: bytes | msgspec.Raw, *, page: bool) -> Any:
        """Decode, and once more where there were names to learn."""
        try:
            return (self._page if page else self._row).decode(text)
        except msgspec.ValidationError:
            if not self._learn(text, page=page):
                raise
        return (self._page if page else self._row).decode(text)

    def _learn(self, text: bytes | msgspec.Raw, *, page: bool) -> bool:
        """Take in the unknown names of a page or a payment; tell whether there were any new ones."""
        if page:
            text = msgspec.json.decode(text, type=dict[str, msgspec.Raw])["data"]
        sent: Any = msgspec.json.decode(text, type=list[_Names] if page else _Names)
        known = {*self._unknown, *PaymentRow.__struct_encode_fields__}
        new = {
            name
            for row in (sent if page else [sent])
            for name in row
            if name not in known and _can_be_field(name)
        }
        if new and (room := _MOST_NAMES - len(self._unknown)) > 0:
            self._unknown += tuple(sorted(new)[:room])
            self._compile()
            return True
        return False

    def _settled(self, rows: list[Any], cut: Callable[[], Sequence[bytes | msgspec.Raw]]) -> list[Any]:
        """Put each field into its one spelling; one that is None, or odd, is read by its model."""
        places = [place for place, row in enumerate(rows) if row is not None]
        found = rows if len(places) == len(rows) else [rows[place] for place in places]
        odd: set[int] = set()
        for column in PAYMENTS.columns:
            if (settle := self._settling.get(column.name)) is not None:
                get, usual = attrgetter(column.name), self._usual[column.name]
                cells = list(map(get, found))
                if usual is None or not set(map(type, cells)) <= usual:
                    _put(found, column.name, settle(cells, odd))
        for place, row in enumerate(found):
            if not _is_amount(row.total.value) or row.extra is not UNSET or not _settle_items(row):
                odd.add(place)
        _put(found, "extra", self._extra_texts(found))
        places_of_odd = {places[place] for place in odd} | (set(range(len(rows))) - set(places))
        if places_of_odd:
            sent = cut()
            for place in places_of_odd:
                rows[place] = self._models.row(sent[place])
        return rows

    def _code_texts(self, cells: list[Any], odd: set[int]) -> list[str]:
        """Give lists of codes, some of which are sent as digits in text, as JSON."""
        texts = list(map(self._codes.get, cells))
        if None in texts:
            for place, cell in enumerate(cells):
                texts[place] = texts[place] or self._code_text(cell)
                if texts[place] is None:
                    odd.add(place)
        return [text or "" for text in texts]

    def _code_text(self, codes: tuple[int | str, ...] | str | None) -> str | None:
        if isinstance(codes, str) or not all(
            isinstance(code, int) or _is_number(code) for code in codes or ()
        ):
            return None
        if len(self._codes) > _MOST_NAMES:
            self._codes.clear()
        text = self._codes[codes] = encode(list(map(int, codes or ()))).decode()
        return text

    def _extra_texts(self, rows: list[Any]) -> list[str]:
        if not self._unknown:
            return ["{}"] * len(rows)
        texts = _json_texts([self._extra(*cells) for cells in map(self._extras, rows)])
        for row in rows:
            for name in self._extra_names:
                setattr(row, name, UNSET)
        return texts


def _settle_items(row: Any) -> bool:
    """Put the line items' fields into their one spelling; tell whether they have one."""
    items = row.line_items
    if items is None:
        row.line_items = ()
        return True
    for item in items:
        if item.extra is not UNSET:
            return False
        if item.payment_id is not None and item.payment_id != row.id:
            return False
        item.payment_id = None
        item.extra = "{}"
        if type(item.invoice_id) is str or type(item.invoice_number) is not str:
            if type(item.invoice_id) is str:
                if not _is_number(item.invoice_id):
                    return False
                item.invoice_id = int(item.invoice_id)
            item.invoice_number = "" if item.invoice_number is None else str(item.invoice_number)
        if item.amount is not None and not _is_amount(item.amount.value):
            return False
    return True


def _texts(cells: list[Any], _odd: set[int]) -> list[str]:
    return ["" if cell is None else cell if type(cell) is str else str(cell) for cell in cells]


def _texts_or_none(cells: list[Any], _odd: set[int]) -> list[str | None]:
    return [cell if cell is None or type(cell) is str else str(cell) for cell in cells]


def _integers(cells: list[Any], odd: set[int]) -> list[int | None]:
    """Give whole numbers, some of which are sent as digits in text."""
    numbers = {cell: int(cell) for cell in set(cells) if type(cell) is str and _is_number(cell)}
    for place, cell in enumerate(cells):
        if type(cell) is str:
            cells[place] = numbers.get(cell)
            if cell not in numbers:
                odd.add(place)
    return cells


def _moments(cells: list[int], odd: set[int]) -> list[int]:
    if cells and not (min(cells) >= 0 and max(cells) <= _LAST_SECOND):
        odd |= {place for place, cell in enumerate(cells) if not 0 <= cell <= _LAST_SECOND}
    return [cell * 1_000_000 for cell in cells]


def _object_texts(cells: list[Any], odd: set[int]) -> list[str]:
    for place, cell in enumerate(cells):
        if type(cell) is not dict:
            if cell is not None:
                odd.add(place)
            cells[place] = {}
    return _json_texts(cells)


def _fee_texts(cells: list[Any], odd: set[int]) -> list[str]:
    for place, cell in enumerate(cells):
        if cell != [] and not _are_fees(cell):
            if cell is not None:
                odd.add(place)
            cells[place] = []
    return _json_texts(cells)


_SETTLING: Final[dict[tuple[Kind, bool], Any]] = {
    (Kind.TEXT, False): _texts,
    (Kind.TEXT, True): _texts_or_none,
    (Kind.INTEGER, False): _integers,
    (Kind.INTEGER, True): _integers,
    (Kind.MOMENT, False): _moments,
}
"""What puts a column's cells into their one spelling, by its kind and whether it is nullable …"""
_USUAL: Final[dict[tuple[Kind, bool], set[type]]] = {
    (Kind.TEXT, False): {str},
    (Kind.TEXT, True): {str, type(None)},
    (Kind.INTEGER, False): {int},
    (Kind.INTEGER, True): {int, type(None)},
}
"""… unless their types are among these."""


def _are_fees(fees: Any) -> bool:
    try:
        amounts = [fee.amount for fee in msgspec.convert(fees, list[_Fee])]
    except (ValueError, ArithmeticError):
        return False
    return all(not amount or abs(amount) > 1 / _USUAL_FEE for amount in amounts)


def _can_be_field(name: str) -> bool:
    # A struct's field cannot be called what JSON has to escape.
    return len(name) <= _LONGEST_NAME and name.isprintable() and not {'"', "\\"} & set(name) and name != "+"


def _json_texts(cells: Sequence[Any]) -> list[str]:
    # In one go: a line each, since JSON has no newline of its own.
    return _encode_lines(cells).decode().split("\n")[:-1]


def _put(rows: list[Any], name: str, cells: Sequence[Any]) -> None:
    for row, cell in zip(rows, cells, strict=True):
        setattr(row, name, cell)
