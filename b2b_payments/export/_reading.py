"""Read the payments of an export or a synced copy, in any format, for `verify` and `report`."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import closing, suppress
from decimal import Decimal
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

import msgspec

from b2b_payments._converter import readable_fields
from b2b_payments._errors import B2BPaymentsError, ExportError, shown
from b2b_payments._formats import format_by_ending
from b2b_payments._models import Payment
from b2b_payments._models.decimals import decimal_of
from b2b_payments._models.description import wire_names
from b2b_payments._models.moment import microseconds_of, moment_of
from b2b_payments._models.money import is_amount
from b2b_payments._tables.columns import PAYMENTS
from b2b_payments.export._account import Entry, FastPayment, Sums, entries_of, entry_of
from b2b_payments.export._csv import read_columns
from b2b_payments.export._database import FileDatabase, as_export_error, opened
from b2b_payments.export._duckdb import DuckDBDatabase
from b2b_payments.export._file import require_file
from b2b_payments.export._manifest import read_manifest
from b2b_payments.export._parquet import row_batches
from b2b_payments.export._postgres import PostgresDatabase
from b2b_payments.export._server import Server
from b2b_payments.export._sqlite import SQLiteDatabase

DATABASES: Final[dict[str, type[FileDatabase]]] = {"sqlite": SQLiteDatabase, "duckdb": DuckDBDatabase}
_SECOND: Final = 1_000_000
_CHUNK: Final = 2_000


class Read(NamedTuple):
    """The fields read from a payment. Those that cannot be read are empty; `amount` is None."""

    id: object
    status: str
    currency: str
    amount: Decimal | None
    month: str
    channel_id: str
    channel_name: str
    module: str
    customer_id: str
    customer_name: str


_OTHERS: Final = ("created_at", "channel_id", "channel_name", "module_name", "customer_id", "customer_name")
"""The attributes of a payment in `Read`, apart from its id and what an `Entry` has."""
_COLUMNS: Final = ("id", "processing_status", "currency", "total", *_OTHERS)


def detect_format(path: Path) -> str | None:
    """Return the format of a file, by its extension or else its manifest. None if neither names one."""
    if (by_ending := format_by_ending(path.name)) is not None:
        return by_ending
    try:
        return read_manifest(path).format
    except ExportError:
        return None


def read_payments(path: Path, format_: str) -> Iterator[Read]:
    """Yield the payments of a file, in the order of the file.

    Raises ExportError if it cannot be read, ConfigurationError if the format's extra is missing.
    """
    read = {"jsonl": _jsonl, "csv": _csv, "parquet": _parquet}.get(format_)
    require_file(path, path, "an export or a sync")
    try:
        yield from _database(path, DATABASES[format_]) if read is None else read(path)
    except B2BPaymentsError:
        raise  # some are ValueErrors, too, but already have a complete message
    except (OSError, ValueError, LookupError, OverflowError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        if isinstance(error, KeyError):
            reason = f"{reason} is missing"
        raise ExportError(f"{path} cannot be read as {format_}: {reason}.") from None


def sums_of(payments: Iterator[Read]) -> Sums:
    """Add payments up, a few at a time."""
    sums = Sums()
    while chunk := list(islice(payments, _CHUNK)):
        sums.add((one.status, one.currency, one.amount) for one in chunk)
    return sums


def read_copy(server: Server) -> Iterator[Read]:
    """Yield the payments of a copy in PostgreSQL. Raises ExportError if they cannot be read."""
    with (
        as_export_error(PostgresDatabase, server, "read"),
        closing(PostgresDatabase.connect(server)) as database,
    ):
        yield from map(_from_cells, database.rows(PAYMENTS, _COLUMNS))


class _FastPayment(FastPayment, rename=wire_names(Payment), kw_only=True, gc=False):
    """The fields of `Read`, of a payment in the service's usual format."""

    id: int
    created_at: int
    customer_id: str
    module_name: str
    customer_name: str
    channel_id: str | None = None
    channel_name: str | None = None


_is_plain_id: Final = re.compile("0|[1-9][0-9]{0,17}").fullmatch
_decode_payment: Final = msgspec.json.Decoder(_FastPayment).decode


def _jsonl(path: Path) -> Iterator[Read]:
    with path.open("rb") as file:
        for line in file:
            yield _from_line(line)


def _from_line(line: bytes) -> Read:
    with suppress(ValueError, ArithmeticError, RecursionError):
        fast = _decode_payment(line)
        if _is_plain_id(fast.channel_id or "0"):
            (entry,) = entries_of([fast])
            return _from_payment(fast, entry, _month(fast.created_at * _SECOND))
    # The entry, which the account of the export has too, does not depend on the other fields.
    payment = SimpleNamespace(**readable_fields(line, ("id", *_OTHERS)))
    created = payment.created_at
    return _from_payment(payment, entry_of(line), "" if created is None else _month(microseconds_of(created)))


def _from_payment(payment: _FastPayment | SimpleNamespace, entry: Entry, month: str) -> Read:
    status, currency, amount = entry
    return Read(
        payment.id,
        str(status),
        currency,
        amount,
        month,
        "" if payment.channel_id is None else str(payment.channel_id),
        payment.channel_name or "",
        payment.module_name or "",
        payment.customer_id or "",
        payment.customer_name or "",
    )


def _csv(path: Path) -> Iterator[Read]:
    return map(_from_cells, read_columns(path, _COLUMNS))


def _parquet(path: Path) -> Iterator[Read]:
    columns = ["epoch_us(created_at)" if name == "created_at" else name for name in _COLUMNS]
    return map(_from_cells, chain.from_iterable(row_batches(path, columns)))


def _database(path: Path, kind: type[FileDatabase]) -> Iterator[Read]:
    with opened(kind, path, read_only=True, doing="read") as database:
        yield from map(_from_cells, database.rows(PAYMENTS, _COLUMNS))


def _from_cells(row: Any) -> Read:
    payment_id, status, currency, total, created, channel, channel_name, module, customer, customer_name = row
    texts = (currency, module, customer, customer_name, channel_name or "")
    amount = total if isinstance(total, Decimal) else decimal_of(str(total))
    is_moment = isinstance(created, int) or (isinstance(created, str) and _begins_with_date(created))
    is_readable = is_moment and all(isinstance(text, str) for text in texts)
    if amount is None or not is_amount(amount) or not is_readable:
        raise ValueError(f"payment {shown(payment_id)} has cells that no export writes")
    return Read(
        payment_id,
        str(status),
        currency,
        amount,
        created[:7] if isinstance(created, str) else _month(created),
        "" if channel is None else str(channel),
        channel_name or "",
        module,
        customer,
        customer_name,
    )


_begins_with_date: Final = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}").match
_DAY: Final = 86_400 * _SECOND


def _month(microseconds: int) -> str:
    return _month_of_day(microseconds // _DAY)


@lru_cache(100_000)
def _month_of_day(day: int) -> str:
    return moment_of(day * _DAY).isoformat()[:7]
