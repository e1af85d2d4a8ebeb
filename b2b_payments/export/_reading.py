"""The payments of an export or a copy read back, as a check and a report want them: of every format."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import closing, suppress
from decimal import Decimal, InvalidOperation
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from b2b_payments._converter import structure_payment
from b2b_payments._errors import B2BPaymentsError, ExportError, ResponseDecodeError
from b2b_payments._formats import format_by_ending
from b2b_payments._models import Payment
from b2b_payments._models.description import wire_names
from b2b_payments._models.moment import microseconds_of, moment_of
from b2b_payments._protocol.json import decode_part
from b2b_payments._tables.columns import PAYMENTS
from b2b_payments.export._account import UNREADABLE, UsualPayment, entries_of
from b2b_payments.export._csv import cells
from b2b_payments.export._database import FileDatabase, as_export_error, opened
from b2b_payments.export._duckdb import DuckDBDatabase
from b2b_payments.export._manifest import read_manifest
from b2b_payments.export._parquet import batches
from b2b_payments.export._postgres import PostgresDatabase, Server
from b2b_payments.export._sqlite import SQLiteDatabase

DATABASES: Final[dict[str, type[FileDatabase]]] = {"sqlite": SQLiteDatabase, "duckdb": DuckDBDatabase}
_SECOND: Final = 1_000_000


class Read(NamedTuple):
    """What is read of a payment. One that cannot be read has no month, no currency and no amount."""

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


_COLUMNS: Final = (
    "id", "processing_status", "currency", "total", "created_at", "channel_id", "channel_name", "module_name",
    "customer_id", "customer_name",
)  # fmt: skip


def found_format(path: Path) -> str | None:
    """Return the format of a file, by its ending or else its manifest; None where neither says it."""
    if (by_ending := format_by_ending(path.name)) is not None:
        return by_ending
    try:
        return read_manifest(path).format
    except ExportError:
        return None


def read_payments(path: Path, format_: str) -> Iterator[Read]:
    """Read the payments of a file, in its own order.

    Raises ExportError where it cannot be read, ConfigurationError where the format's extra is missing.
    """
    read = {"jsonl": _jsonl, "csv": _csv, "parquet": _parquet}.get(format_)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ExportError(f"{path} {what}: name a file that an export or a sync has written.")
    try:
        yield from _database(path, DATABASES[format_]) if read is None else read(path)
    except B2BPaymentsError:
        raise  # some of them are ValueErrors, too, and say all there is to say
    except (OSError, ValueError, LookupError, InvalidOperation, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ExportError(f"{path} cannot be read as {format_}: {reason}.") from None


def read_copy(server: Server) -> Iterator[Read]:
    """Read the payments of a copy in PostgreSQL. Raises ExportError where they cannot be read."""
    with (
        as_export_error(PostgresDatabase, server, "read"),
        closing(PostgresDatabase.connect(server)) as database,
    ):
        yield from map(_of_cells, database.rows(PAYMENTS, _COLUMNS))


_unreadable: Final = Read(None, UNREADABLE, "", None, "", "", "", "", "", "")


class _Identified(msgspec.Struct):
    id: int | str


class _Usual(UsualPayment, rename=wire_names(Payment), kw_only=True, gc=False):
    """A payment as it usually comes."""

    id: int
    created_at: int
    customer_id: str
    module_name: str
    customer_name: str
    channel_id: str | None = None
    channel_name: str | None = None


_usual: Final = msgspec.json.Decoder(_Usual).decode
_identified: Final = msgspec.json.Decoder(_Identified).decode


def _jsonl(path: Path) -> Iterator[Read]:
    with path.open("rb") as file:
        for line in file:
            yield _of_line(line)


def _of_line(line: bytes) -> Read:
    with suppress(ValueError, ArithmeticError, RecursionError):
        usual = _usual(line)
        if (usual.channel_id or "0").isdecimal():
            ((status, currency, amount),) = entries_of([usual])
            return _of_payment(usual, status, currency, amount, usual.created_at * _SECOND)
    # As tolerantly as payments are read.
    try:
        one = structure_payment(decode_part(line))
    except ResponseDecodeError:
        return _unreadable._replace(id=_id_of(line))
    status, total = int(one.processing_status), one.total
    return _of_payment(one, status, total.currency, total.amount, microseconds_of(one.created_at))


def _of_payment(
    one: _Usual | Payment, status: object, currency: str, amount: Decimal | None, created: int
) -> Read:
    return Read(
        one.id,
        str(status),
        currency,
        amount,
        _month(created),
        "" if one.channel_id is None else str(one.channel_id),
        one.channel_name or "",
        one.module_name,
        one.customer_id,
        one.customer_name,
    )


def _id_of(line: bytes) -> int | str | None:
    with suppress(ValueError, RecursionError):
        return _identified(line).id
    return None


def _csv(path: Path) -> Iterator[Read]:
    return map(_of_cells, cells(path, _COLUMNS))


def _parquet(path: Path) -> Iterator[Read]:
    columns = ["epoch_us(created_at)" if name == "created_at" else name for name in _COLUMNS]
    return map(_of_cells, chain.from_iterable(batches(path, columns)))


def _database(path: Path, kind: type[FileDatabase]) -> Iterator[Read]:
    with opened(kind, path, read_only=True, doing="read") as database:
        yield from map(_of_cells, database.rows(PAYMENTS, _COLUMNS))


def _of_cells(row: Any) -> Read:
    one, status, currency, total, created, channel, channel_name, module, customer, customer_name = row
    return Read(
        one,
        str(status),
        currency,
        total if isinstance(total, Decimal) else Decimal(total),
        created[:7] if isinstance(created, str) else _month(created),
        "" if channel is None else str(channel),
        channel_name or "",
        module,
        customer,
        customer_name,
    )


_DAY: Final = 86_400 * _SECOND
_months: Final[dict[int, str]] = {}


def _month(microseconds: int) -> str:
    day = microseconds // _DAY
    if (month := _months.get(day)) is None:
        month = moment_of(day * _DAY).isoformat()[:7]
        if len(_months) < 100_000:
            _months[day] = month
    return month
