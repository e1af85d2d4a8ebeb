"""The formats with columns: CSV, Parquet, SQLite and DuckDB."""

from __future__ import annotations

import csv
import json
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any

import duckdb
import pyarrow
import pytest
from pyarrow import parquet

from b2b_payments import ConfigurationError, ResponseDecodeError
from b2b_payments.export import CSVSink, ExportError, VerificationError, sink_for, verify
from b2b_payments.export._duckdb import DuckDBDatabase
from b2b_payments.export._log import Log
from b2b_payments.export._placed import StagedFile
from b2b_payments.export._reading import read_payments
from b2b_payments.export._sqlite import SQLiteDatabase
from b2b_payments.sandbox import Sandbox
from tests.support.export_reading import account_of, exact, tables_in
from tests.support.exporting import exported

ROWS: list[dict[str, Any]] = list(Sandbox(payments=60).store.all_wire())
TABLES = ("csv", "parquet", "sqlite", "duckdb")
DATABASES = ("sqlite", "duckdb")


def written(
    path: Path, format_: str, *batches: list[dict[str, Any]], complete: bool = True, resume: bool = False
) -> None:
    """Export batches, and commit each."""
    sink = sink_for(path, format_)
    try:
        earlier = None
        if resume:
            earlier = sink.resume()
        else:
            sink.open()
        account = earlier and earlier["account"]
        for batch in batches:
            sink.write(batch)
            account = account_of(batch, account)
            sink.commit({"account": account})
    except BaseException:
        sink.close(complete=False)
        raise
    sink.close(complete=complete)


@contextmanager
def connected(path: Path, format_: str) -> Iterator[Any]:
    """Connect to a database."""
    connection: Any = sqlite3.connect(path) if format_ == "sqlite" else duckdb.connect(str(path))
    with closing(connection):
        yield connection
        if format_ == "sqlite":
            connection.commit()


def changed(**fields: Any) -> dict[str, Any]:
    """Return the example payment with changed fields."""
    return {**ROWS[0], **fields}


@pytest.mark.parametrize("format_", TABLES)
def test_hostile_text(tmp_path: Path, format_: str) -> None:
    """Quotes, commas, newlines, other scripts, a zero byte and empty text come back unchanged."""
    texts = [
        '"',
        ",",
        "a\nb\r\nc",
        "株式会社",
        "\u2028",
        "\x00",
        "'; DROP TABLE payments; --",
        "",
        "=1+1",
        " x ",
    ]
    rows = [changed(id=place, customerName=text) for place, text in enumerate(texts, 1)]
    written(tmp_path / "p", format_, rows)
    payments, _ = tables_in(tmp_path / "p", format_)
    assert [row["customer_name"] for row in payments] == texts


@pytest.mark.parametrize("format_", TABLES)
@pytest.mark.parametrize("value", ["0.000000000001", "-99999999999999999999999999.999999999999", "30.0000"])
def test_every_digit(tmp_path: Path, format_: str, value: str) -> None:
    """Amounts with up to 26 digits before the point and 12 after it are exact."""
    written(tmp_path / "p", format_, [changed(total={"code": "USD", "value": value})])
    payments, _ = tables_in(tmp_path / "p", format_)
    assert exact(payments)[0]["total"] == Decimal(value)


@pytest.mark.parametrize("format_", ["parquet", "duckdb"])
@pytest.mark.parametrize("value", ["0.0000000000001", "100000000000000000000000000"])
def test_too_many_digits(tmp_path: Path, format_: str, value: str) -> None:
    """An amount that does not fit is not rounded: the error names the payment and the remedy."""
    with pytest.raises(ExportError, match=r"total .* of payment 1 does not fit .* export to jsonl or csv"):
        written(tmp_path / "p", format_, [changed(total={"code": "USD", "value": value})])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format_", ["csv", "sqlite"])
def test_any_number_of_digits(tmp_path: Path, format_: str) -> None:
    """Formats with amounts as text hold any amount exactly."""
    value = "1234567890" * 4 + "." + "0123456789" * 4
    written(tmp_path / "p", format_, [changed(total={"code": "USD", "value": value})])
    assert tables_in(tmp_path / "p", format_)[0][0]["total"] == value


@pytest.mark.parametrize("format_", ["parquet", *DATABASES])
def test_too_large_an_id(tmp_path: Path, format_: str) -> None:
    """A number beyond 64 bits raises a clear error."""
    with pytest.raises(ExportError, match=r"id 9223372036854775808 of payment .* does not fit into 64 bits"):
        written(tmp_path / "p", format_, [changed(id=2**63)])


@pytest.mark.parametrize("format_", TABLES)
def test_unreadable_payment(tmp_path: Path, format_: str) -> None:
    """An unreadable payment raises an error with its id and the field, and no file appears."""
    with pytest.raises(ResponseDecodeError, match=r"payment 1: \$\.total"):
        written(tmp_path / "p", format_, [changed(total=5)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format_", TABLES)
def test_what_has_no_column(tmp_path: Path, format_: str) -> None:
    """Unknown fields of all levels are in `extra`, as is another payment's id in a line item."""
    item = {"paymentId": 7, "invoiceId": 1, "amount": {"code": "USD", "value": "1", "z": 1}, "y": [2]}
    row = changed(total={"code": "USD", "value": "1", "symbol": "$"}, lineItems=[item])
    written(
        tmp_path / "p",
        format_,
        [{name: row[name] for name in row if not name.startswith(("bc", "customerBc"))}],
    )
    payments, items = tables_in(tmp_path / "p", format_)
    assert payments[0]["extra"] == '{"total":{"symbol":"$"}}'
    assert items[0]["extra"] == '{"y":[2],"amount":{"z":1},"paymentId":7}'


def test_parquet_file(tmp_path: Path) -> None:
    """The file has zstd row groups, decimals and UTC times; an empty file has the same schema."""
    written(tmp_path / "p.parquet", "parquet", ROWS[:20], [], ROWS[20:50])
    with parquet.ParquetFile(tmp_path / "p.parquet") as file:
        groups = [file.metadata.row_group(place) for place in range(file.num_row_groups)]
        assert sum(group.num_rows for group in groups) == 50
        assert {
            group.column(place).compression for group in groups for place in range(group.num_columns)
        } == {"ZSTD"}
        schema = file.schema_arrow
    assert schema.field("total").type == pyarrow.decimal128(38, 12)
    assert schema.field("created_at").type == pyarrow.timestamp("us", "UTC")
    assert pyarrow.types.is_list(schema.field("line_items").type)
    written(tmp_path / "none.parquet", "parquet")
    assert parquet.read_table(tmp_path / "none.parquet").schema == schema


@pytest.mark.parametrize(("memo", "largest"), [("", 5_000), ("x" * 10_000, 4_096)])
def test_row_groups_of_large_payments(tmp_path: Path, memo: str, largest: int) -> None:
    """A row group, which has to fit into memory, has fewer payments if these are large."""
    rows = [changed(id=number, details={"memo": memo}) for number in range(5_000)]
    written(
        tmp_path / "p.parquet", "parquet", *(rows[start : start + 2_000] for start in range(0, 5_000, 2_000))
    )
    with parquet.ParquetFile(tmp_path / "p.parquet") as file:
        found = [file.metadata.row_group(place).num_rows for place in range(file.num_row_groups)]
    assert sum(found) == 5_000
    assert max(found) <= largest
    assert (len(found) == 1) == (not memo)


@pytest.mark.parametrize("format_", ["jsonl", "csv", "parquet"])
def test_permissions_stay(tmp_path: Path, format_: str) -> None:
    """A replaced file and its manifest keep the permissions of the older file."""
    path = tmp_path / f"p.{format_}"
    path.touch(mode=0o600)
    written(path, format_, ROWS)
    assert {stat.S_IMODE(found.stat().st_mode) for found in tmp_path.iterdir()} == {0o600}


def test_zeros_beyond_the_column(tmp_path: Path) -> None:
    """Any number of trailing zeros fits into a decimal column."""
    values = ["30." + "0" * 39, "0." + "0" * 30, "-0.50" + "0" * 38]
    rows = [changed(id=place, total={"code": "USD", "value": value}) for place, value in enumerate(values, 1)]
    written(tmp_path / "p", "parquet", rows)
    assert [row["total"] for row in tables_in(tmp_path / "p", "parquet")[0]] == list(map(Decimal, values))


@pytest.mark.parametrize("format_", DATABASES)
def test_database_keeps_other_objects(tmp_path: Path, format_: str) -> None:
    """Other tables, indexes and views stay; rows of deleted payments are removed."""
    path = tmp_path / "p"
    written(path, format_, ROWS[:40])
    with connected(path, format_) as db:
        db.execute("CREATE TABLE notes (text VARCHAR)")
        db.execute("INSERT INTO notes VALUES ('mine')")
        db.execute("CREATE INDEX by_customer ON payments (customer_name)")
        db.execute("CREATE VIEW many AS SELECT count(*) AS n FROM payments")
    written(path, format_, ROWS[10:30], ROWS[30:60])
    with connected(path, format_) as db:
        assert db.execute("SELECT text FROM notes").fetchall() == [("mine",)]
        assert db.execute("SELECT n FROM many").fetchall() == [(50,)]
        indexes = (
            "sqlite_master WHERE type = 'index' AND name"
            if format_ == "sqlite"
            else "duckdb_indexes() WHERE index_name"
        )
        assert db.execute(f"SELECT count(*) FROM {indexes} = 'by_customer'").fetchall() == [(1,)]  # noqa: S608
    assert verify(path).account.sums.whole.rows == 50


@pytest.mark.parametrize("format_", DATABASES)
def test_repeated_payment(tmp_path: Path, format_: str) -> None:
    """A repeated payment, in one batch or a later one, replaces its row and line items."""
    path = tmp_path / "p"
    long = next(row for row in ROWS if len(row["lineItems"]) > 1)
    short = {**long, "customerName": "last", "lineItems": long["lineItems"][:1]}
    written(path, format_, [long], [long, short])
    payments, items = tables_in(path, format_)
    assert [row["customer_name"] for row in payments] == ["last"]
    assert len(items) == 1


@pytest.mark.parametrize("again", [1, 2])
def test_too_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: int) -> None:
    """If the memory limit is too small for DuckDB, the limit is lifted."""
    for limit in ("_MEMORY", "_LEAST_MEMORY"):
        monkeypatch.setattr(f"b2b_payments.export._duckdb.{limit}", 2**20)
    for _ in range(again):
        written(tmp_path / "p", "duckdb", ROWS)
    assert verify(tmp_path / "p").account.sums.whole.rows == 60


@pytest.mark.parametrize("format_", DATABASES)
def test_another_table_of_that_name(tmp_path: Path, format_: str) -> None:
    """A table `payments` that no export made is not replaced."""
    path = tmp_path / "p"
    with connected(path, format_) as db:
        db.execute("CREATE TABLE payments (id BIGINT, note VARCHAR)")
    with pytest.raises(
        ConfigurationError, match=r"has a table payments with columns other than .* left alone"
    ):
        written(path, format_, ROWS)
    with connected(path, format_) as db:
        assert db.execute("SELECT * FROM payments").fetchall() == []


@pytest.mark.parametrize("format_", DATABASES)
def test_file_that_is_not_a_database(tmp_path: Path, format_: str) -> None:
    """A file that is not a database raises a clear error, and stays unchanged."""
    path = tmp_path / "p"
    path.write_text("These are the notes of last night. " * 50)
    with pytest.raises(ExportError, match="could not be written: "):
        written(path, format_, ROWS)
    assert path.read_text().startswith("These are")


@pytest.mark.parametrize("format_", ["jsonl", *TABLES])
def test_resumed(tmp_path: Path, format_: str) -> None:
    """A sink resumes after the last commit; the older output stays until the end."""
    path = tmp_path / f"p.{format_}"
    written(path, format_, ROWS[:5])
    written(path, format_, ROWS[:20], ROWS[20:40], complete=False)
    if format_ in TABLES:
        assert len(tables_in(path, format_)[0]) == 5
    written(path, format_, ROWS[40:], resume=True)
    assert verify(path).account.sums.whole.rows == 60
    names = {found.name for found in tmp_path.iterdir()}
    assert names - {"p.csv.line_items", "p.line_items.csv"} == {path.name, f"{path.name}.manifest.json"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("p.csv", "p"),
        ("p", "p.csv"),
        ("p.csv", "p.CSV"),
        ("p.csv", "p.line_items.csv"),
        ("p.line_items.csv", "p"),
    ],
)
def test_files_of_another_export(tmp_path: Path, first: str, second: str) -> None:
    """An export that would overwrite a file of another export is refused at once."""
    exported(sink_for(tmp_path / first, "csv"))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    sink = sink_for(tmp_path / second, "csv")
    with pytest.raises(ConfigurationError, match=r"\.csv belongs to the export p.*\. Give another name\."):
        sink.open()
    sink.close(complete=False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    exported(sink_for(tmp_path / first, "csv"))
    (tmp_path / f"{first}.manifest.json").unlink()
    exported(sink_for(tmp_path / second, "csv"))
    verify(tmp_path / second)


@pytest.mark.parametrize("content", [b"{", b'{"version": 9, "format": "csv"}'])
def test_unreadable_manifest_beside_an_export(tmp_path: Path, content: bytes) -> None:
    """A manifest of another name that cannot be read claims no file."""
    (tmp_path / "p.manifest.json").write_bytes(content)
    exported(sink_for(tmp_path / "p.csv"))
    verify(tmp_path / "p.csv")


def test_removed_files_of_another_export(tmp_path: Path) -> None:
    """A manifest whose files are gone claims none of them."""
    exported(sink_for(tmp_path / "p", "csv"))
    (tmp_path / "p.line_items.csv").unlink()
    exported(sink_for(tmp_path / "p.csv"))
    verify(tmp_path / "p.csv")


def test_spreadsheet_safe(tmp_path: Path) -> None:
    """If asked, an apostrophe is put before text that a spreadsheet would run, and only there."""
    texts = ["=1+1", "+1", "-1", "@a", "\t=1", "a=1", "", "'=1"]
    rows = [changed(id=number, payerName=text) for number, text in enumerate(texts, 1)]
    rows.append(changed(id=9, channelName=None, payerName='=HYPERLINK("x")'))
    for safe in (True, False):
        path = tmp_path / f"{safe}.csv"
        exported(CSVSink(path, spreadsheet_safe=safe), rows)
        with path.open(newline="", encoding="utf-8") as file:
            read = list(csv.DictReader(file))
        signs = ["'", "'", "'", "'", "'", "", "", "", "'"] if safe else [""] * 9
        assert [row["payer_name"] for row in read] == [
            f"{sign}{row['payerName']}" for sign, row in zip(signs, rows, strict=True)
        ]
        assert [row["total"] for row in read] == [ROWS[0]["total"]["value"]] * 9
        verify(path)


@pytest.mark.parametrize("safe", [True, False])
def test_spreadsheet_safe_resumed(tmp_path: Path, *, safe: bool) -> None:
    """An interrupted export is resumed only with the same choice, so that no file mixes both."""
    path = tmp_path / "p.csv"
    sink = CSVSink(path, spreadsheet_safe=safe)
    sink.open()
    sink.write(ROWS[:10])
    committed = {"account": account_of(ROWS[:10])}
    sink.commit(committed)
    sink.close(complete=False)
    other = CSVSink(path, spreadsheet_safe=not safe)
    with pytest.raises(
        ExportError, match=r"has the format 'csv.*resume it in its own format, or start again"
    ):
        other.resume()
    other.close(complete=False)
    again = CSVSink(path, spreadsheet_safe=safe)
    assert again.resume() == committed
    again.close(complete=False)


@pytest.mark.parametrize("format_", ["csv", "parquet", *DATABASES])
@pytest.mark.parametrize(
    "change",
    [
        {"total": "NULL"}, {"total": "'NaN'"}, {"total": "'sNaN'"}, {"total": "'1E+400000'"},
        {"total": "'30,00'"}, {"currency": "NULL"}, {"module_name": "NULL"}, {"created_at": "NULL"},
        {"customer_id": "'\\x00'::BLOB"},
    ],
    ids=str,
)  # fmt: skip
def test_cells_that_no_export_writes(tmp_path: Path, format_: str, change: dict[str, str]) -> None:
    """A file by another program whose cells are no payment's is an ExportError, in `report` and `verify`."""
    ((name, value),) = change.items()
    path, odd = tmp_path / "p", tmp_path / "odd"
    exported(sink_for(path, "parquet"), ROWS[:3])
    rows = f"SELECT * REPLACE ({value} AS {name}) FROM read_parquet('{path}')"  # noqa: S608
    if format_ in {"csv", "parquet"}:
        if format_ == "csv":
            rows = rows.replace("NULL", "'no'")
        duckdb.execute(f"COPY ({rows}) TO '{odd}' (FORMAT {format_})")
    elif format_ == "duckdb":
        with connected(odd, format_) as db:
            db.execute(f"CREATE TABLE payments AS {rows}")
    else:
        result = duckdb.execute(rows)
        names = [column[0] for column in result.description]
        with connected(odd, format_) as db:
            db.execute(f"CREATE TABLE payments ({', '.join(names)})")
            for row in result.fetchall():
                cells = [cell if cell is None or isinstance(cell, bytes | int) else str(cell) for cell in row]
                db.execute(f"INSERT INTO payments VALUES ({', '.join('?' * len(names))})", cells)  # noqa: S608
    if format_ == "csv" and name in {"currency", "module_name", "customer_id"}:
        assert len(list(read_payments(odd, format_))) == 3  # any text will do
        return
    with pytest.raises(ExportError, match=r"cannot be read|could not be read"):
        list(read_payments(odd, format_))


class _Meddled(CSVSink):
    """A sink whose files another program changes just before they are moved into place."""

    def fill(self, log: Log, files: Sequence[StagedFile]) -> None:
        super().fill(log, files)
        for file in files:
            file.file.flush()
            self.meddle(file.path)

    def meddle(self, path: Path) -> None:
        """Remove the file."""
        path.unlink()


class _Lengthened(_Meddled):
    def meddle(self, path: Path) -> None:
        with path.open("ab") as file:
            file.write(b"x")


@pytest.mark.parametrize("sink", [_Meddled, _Lengthened])
def test_file_changed_before_it_is_moved(tmp_path: Path, sink: type[CSVSink]) -> None:
    """A file that another program removed or changed is not published, and the export can be resumed."""
    path = tmp_path / "p.csv"
    with pytest.raises(ExportError, match=r"csv was not written: another program changed .*\. Resume"):
        exported(sink(path))
    assert not path.exists()
    exported(CSVSink(path), resume=True)
    verify(path)


@pytest.mark.parametrize("format_", DATABASES)
def test_database_removed_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: str
) -> None:
    """A database that is removed while it is written is missed, and the export can be resumed."""
    path = tmp_path / "p"
    database = DuckDBDatabase if format_ == "duckdb" else SQLiteDatabase
    replace = database.replace

    def replace_and_remove(*args: Any, **options: Any) -> Any:
        digests = replace(*args, **options)
        path.unlink()
        return digests

    with monkeypatch.context() as patch:
        patch.setattr(database, "replace", replace_and_remove)
        with pytest.raises(ExportError):
            exported(sink_for(path, format_))
    assert not path.exists()
    exported(sink_for(path, format_), resume=True)
    verify(path)


def test_database_that_another_process_has_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another process has a DuckDB file open, the export waits a while until it is closed."""
    path = tmp_path / "p.duckdb"
    program = "import duckdb, sys; db = duckdb.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()

        def end_other(_: float) -> None:
            other.communicate()

        slow = SimpleNamespace(sleep=end_other, monotonic=monotonic)
        monkeypatch.setattr("b2b_payments.export._duckdb.time", slow)
        exported(sink_for(path))
    verify(path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": "xml"}, "names an unknown format: update this library"),
        ({"version": 9}, "is not of version 2: use the version of the library that wrote it"),
        ({"rows": 13}, "the number of payments: now 12, but 13 when it was exported"),
        ({"totals": {"USD": "1"}}, "the totals: now .*, but .* when it was exported"),
        ({"sha256": {}}, "its manifest describes other files"),
        ({"sha256": {"gone.csv": "0"}}, "gone.csv could not be read: No such file"),
    ],
)
def test_manifest_that_does_not_fit(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    """`verify` names what a manifest says that its file does not."""
    path = tmp_path / "p.csv"
    exported(sink_for(path))
    manifest = path.with_name("p.csv.manifest.json")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))
    with pytest.raises(ExportError, match=says):
        verify(path)


def test_verify_finds_a_repeated_payment(tmp_path: Path) -> None:
    """A payment that a file has twice is found, even if the file is as it was exported."""
    path = tmp_path / "p.csv"
    exported(sink_for(path), [*ROWS[:5], ROWS[2]])
    with pytest.raises(VerificationError, match=r"p\.csv is not what was exported: payment 3 occurs twice"):
        verify(path)


@pytest.mark.parametrize(("format_", "library"), [("parquet", "duckdb"), ("duckdb", "duckdb")])
def test_missing_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, format_: str, library: str) -> None:
    """Without the extra, a clear error says how to install it."""
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(
        ConfigurationError, match=rf"needs {library}: pip install 'b2b-payments\[{format_}\]'"
    ):
        sink_for(tmp_path / "p", format_)


def test_unknown_format(tmp_path: Path) -> None:
    """The error for an unknown format lists the formats."""
    with pytest.raises(ConfigurationError, match="'xml' is not a format: give jsonl, csv, parquet"):
        sink_for(tmp_path / "p", "xml")


def test_verify_during_a_write(tmp_path: Path) -> None:
    """If a process ended in a transaction, `verify` says what to do, not that the data is wrong."""
    path = tmp_path / "payments.sqlite"
    written(path, "sqlite", ROWS)
    journal = path.with_name(f"{path.name}-journal")
    journal.write_bytes(b"\0" * 512)
    with pytest.raises(ExportError, match=r"or a process ended while writing it: wait, or resume"):
        verify(path)
    journal.unlink()
    assert verify(path).account.sums.whole.rows == len(ROWS)


_KILLED = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA cache_size = 1")
db.execute("BEGIN")
db.execute("UPDATE payments SET payer_name = payer_name || zeroblob(9000)")
os._exit(9)
"""


@pytest.mark.parametrize("resume", [True, False])
def test_a_journal_that_a_kill_left(tmp_path: Path, *, resume: bool) -> None:
    """Uncommitted changes of a killed process are rolled back by the next export."""
    path = tmp_path / "payments.sqlite"
    written(path, "sqlite", ROWS)
    subprocess.run([sys.executable, "-c", _KILLED, str(path)], check=False)
    assert path.with_name(f"{path.name}-journal").stat().st_size
    written(path, "sqlite", ROWS[:20], resume=resume)
    assert verify(path).account.sums.whole.rows == 20


def add_triggers(path: Path, script: str) -> None:
    """Create triggers, and an empty table `seen`, in a database."""
    with connected(path, "sqlite") as db:
        db.execute("CREATE TABLE IF NOT EXISTS seen (what TEXT)")
        db.executescript(script)


def made_again(path: Path, part: str, changed: str) -> None:
    """Create an export's tables as a user might: with a part of their definition changed."""
    exported(sink_for(path.with_name("original"), "sqlite"))
    with connected(path.with_name("original"), "sqlite") as original, connected(path, "sqlite") as db:
        for (sql,) in original.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"):
            db.execute(sql.replace(part, changed))


def test_triggers_see_what_changed(tmp_path: Path) -> None:
    """A user's triggers fire only for rows that are actually deleted, inserted or updated."""
    path = tmp_path / "p"
    written(path, "sqlite", ROWS[:10])
    for event, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
        for table, key in (("payments", "id"), ("line_items", "payment_id")):
            note = f"INSERT INTO seen VALUES ('{event} {table} ' || {row}.{key});"  # noqa: S608
            add_triggers(path, f"CREATE TRIGGER {table}_{event} AFTER {event} ON {table} BEGIN {note} END")
    other = {**ROWS[3], "customerName": "other", "lineItems": []}
    written(path, "sqlite", [*ROWS[:3], other, *ROWS[4:9], ROWS[20]])
    with connected(path, "sqlite") as db:
        seen = {what for (what,) in db.execute("SELECT what FROM seen")}
    assert seen == {
        "UPDATE payments 4", "DELETE payments 10", "INSERT payments 21",
        "DELETE line_items 4", "DELETE line_items 10", "INSERT line_items 21",
    }  # fmt: skip
    assert verify(path).account.sums.whole.rows == 10


@pytest.mark.parametrize(
    ("trigger", "says"),
    [
        ("AFTER DELETE ON payments BEGIN SELECT RAISE(ABORT, 'protected'); END", "protected"),
        ("AFTER INSERT ON payments BEGIN DELETE FROM payments WHERE id = NEW.id; END", "drop that trigger"),
        ("AFTER UPDATE ON payments BEGIN UPDATE payments SET payer_name = 'x'; END", "drop that trigger"),
        ("AFTER INSERT ON line_items BEGIN UPDATE payments SET payer_name = 'x'; END", "drop that trigger"),
        ("AFTER DELETE ON line_items BEGIN DELETE FROM payments WHERE id = 1; END", "drop that trigger"),
        ("BEFORE INSERT ON line_items BEGIN SELECT RAISE(IGNORE); END", "drop that trigger"),
        ("BEFORE DELETE ON payments BEGIN SELECT RAISE(IGNORE); END", "drop that trigger"),
        ("AFTER DELETE ON line_items BEGIN INSERT INTO seen VALUES ('x'); END", "drop that trigger"),
        ("AFTER INSERT ON line_items BEGIN DELETE FROM ids WHERE id = 1; END", "drop that trigger"),
    ],
)
def test_triggers_that_forbid_or_change(tmp_path: Path, trigger: str, says: str) -> None:
    """A trigger that refuses or changes rows raises a clear error, and the tables stay unchanged."""
    path = tmp_path / "p"
    written(path, "sqlite", ROWS[:10])
    add_triggers(
        path,
        "CREATE TRIGGER spoil AFTER INSERT ON seen BEGIN UPDATE payments SET payer_name = 'x'; END;"
        "CREATE VIEW ids AS SELECT id FROM payments;"
        "CREATE TRIGGER hide INSTEAD OF DELETE ON ids BEGIN DELETE FROM payments WHERE id = OLD.id; END;",
    )
    add_triggers(path, f"CREATE TRIGGER mine {trigger}")
    with pytest.raises(ExportError, match=says):
        written(path, "sqlite", [{**ROWS[0], "customerName": "other"}, *ROWS[1:5], ROWS[20]])
    assert verify(path).account.sums.whole.rows == 10


@pytest.mark.parametrize("kind", ["VIRTUAL", "STORED"])
def test_generated_columns_with_a_trigger(tmp_path: Path, kind: str) -> None:
    """Generated columns stay, also if there are triggers."""
    path = tmp_path / "p"
    made_again(path, "(id INTEGER", f"(cents INTEGER AS (total * 100) {kind}, id INTEGER")
    add_triggers(
        path, "CREATE TRIGGER mine AFTER UPDATE ON payments BEGIN INSERT INTO seen VALUES (NEW.cents); END"
    )
    written(path, "sqlite", ROWS[:10])
    written(path, "sqlite", [{**ROWS[0], "customerName": "last"}, *ROWS[1:20]])
    with connected(path, "sqlite") as db:
        cents = db.execute("SELECT CAST(cents AS TEXT) FROM payments WHERE customer_name = 'last'")
        assert db.execute("SELECT what FROM seen").fetchall() == cents.fetchall() != []
        assert db.execute("SELECT count(cents) FROM payments").fetchall() == [(20,)]
    verify(path)


@pytest.mark.parametrize(
    ("part", "changed"),
    [
        ("CREATE TABLE payments", "CREATE TABLE Payments"),
        ("(payment_id, position))", "(payment_id, position)) WITHOUT ROWID"),
        ("customer_name TEXT", "customer_name TEXT COLLATE NOCASE DEFAULT 'nobody'"),
        ("PRIMARY KEY (id)", "PRIMARY KEY (id) ON CONFLICT IGNORE"),
        ("PRIMARY KEY (id)", "UNIQUE (id), CHECK (currency <> '')"),
    ],
)
def test_tables_made_again(tmp_path: Path, part: str, changed: str) -> None:
    """Tables with the columns of an export hold exactly the payments, whatever else defines them."""
    path = tmp_path / "p"
    made_again(path, part, changed)
    written(path, "sqlite", ROWS[:10])
    written(path, "sqlite", [{**ROWS[0], "customerName": ROWS[0]["customerName"].upper()}, *ROWS[1:20]])
    assert verify(path).account.sums.whole.rows == 20
    written(path, "sqlite", ROWS[:10], [{**ROWS[0], "customerName": "last"}])
    with connected(path, "sqlite") as db:
        found = db.execute("SELECT count(*), sum(customer_name = 'last') FROM payments").fetchall()
    assert found == [(10, 1)]


@pytest.mark.parametrize("action", ["IGNORE", "REPLACE"])
def test_constraints_that_drop_rows(tmp_path: Path, action: str) -> None:
    """A constraint that silently drops rows makes the export fail."""
    path = tmp_path / "p"
    made_again(path, "PRIMARY KEY (id)", f"PRIMARY KEY (id), UNIQUE (currency) ON CONFLICT {action}")
    with pytest.raises(ExportError, match="payments are changed by a trigger, a constraint or"):
        written(path, "sqlite", ROWS)
    with connected(path, "sqlite") as db:
        assert db.execute("SELECT count(*) FROM payments").fetchall() == [(0,)]


@pytest.mark.parametrize("batches", [1, 2])
def test_encoding_of_the_database(tmp_path: Path, batches: int) -> None:
    """A database in UTF-16 is exact: the export fails for two characters that SQLite would replace there."""
    path = tmp_path / "p"
    with connected(path, "sqlite") as db:
        db.execute("PRAGMA encoding = 'UTF-16'")
        db.execute("CREATE TABLE mine (id)")
    written(path, "sqlite", *[[{**ROWS[0], "customerName": "ß\ufeff€\U0001f600"}]] * batches)
    for text in ("a\uffff", "\ufffe"):
        with pytest.raises(ExportError, match="or the database's encoding, so they would differ"):
            written(path, "sqlite", *[[{**ROWS[0], "customerName": text}]] * batches)
    with connected(path, "sqlite") as db:
        assert db.execute("SELECT customer_name FROM payments").fetchall() == [("ß\ufeff€\U0001f600",)]


def refuses_to_open(path: Path, says: str) -> None:
    """Check that an export to SQLite is refused when it begins, and leaves nothing."""
    before = {found.name: found.read_bytes() for found in path.parent.iterdir()}
    sink = sink_for(path, "sqlite")
    with pytest.raises(ExportError, match=says):
        sink.open()
    sink.close(complete=False)
    assert {found.name: found.read_bytes() for found in path.parent.iterdir()} == before


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("CREATE TABLE mine (id); CREATE INDEX payments ON mine (id)", "already an index named payments"),
        ("CREATE TABLE mine (id); CREATE INDEX Line_Items ON mine (id)", "already an index named line_items"),
    ],
)
def test_names_that_are_taken(tmp_path: Path, script: str, says: str) -> None:
    """If SQLite cannot create the tables, the export fails before anything is fetched."""
    path = tmp_path / "p"
    with connected(path, "sqlite") as db:
        db.executescript(script)
    refuses_to_open(path, says)


@pytest.mark.parametrize("event", ["INSERT ON payments", "UPDATE ON payments", "DELETE ON line_items"])
def test_triggers_that_cannot_run(tmp_path: Path, event: str) -> None:
    """If SQLite cannot execute a trigger, the export fails before anything is fetched."""
    path = tmp_path / "p"
    written(path, "sqlite", ROWS[:5])
    add_triggers(path, f"CREATE TRIGGER mine AFTER {event} BEGIN DELETE FROM gone; END")  # noqa: S608
    refuses_to_open(path, r"no such table: main\.gone")
    assert verify(path).account.sums.whole.rows == 5


def test_table_without_a_key(tmp_path: Path) -> None:
    """A table without the key of an export is refused before anything is fetched."""
    path = tmp_path / "p"
    made_again(path, ", PRIMARY KEY (id)", "")
    refuses_to_open(path, "PRIMARY KEY")


def test_repeated_payment_with_a_trigger(tmp_path: Path) -> None:
    """Triggers see only the last version of a repeated payment."""
    path = tmp_path / "p"
    written(path, "sqlite", ROWS[:2])
    add_triggers(
        path, "CREATE TRIGGER mine AFTER UPDATE ON payments BEGIN INSERT INTO seen VALUES (NEW.id); END"
    )
    written(path, "sqlite", ROWS[:2], [{**ROWS[0], "customerName": "last"}])
    with connected(path, "sqlite") as db:
        assert db.execute("SELECT what FROM seen").fetchall() == [("1",)]
        assert db.execute("SELECT count(*) FROM payments").fetchall() == [(2,)]


def test_a_commit_without_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a commit ran out of memory, DuckDB is opened again with more memory."""
    attempts: list[bool] = []
    replace = DuckDBDatabase.replace

    def replace_with_little_memory(database: DuckDBDatabase, *args: Any, careful: bool) -> Any:
        digests = replace(database, *args, careful=careful)
        attempts.append(careful)
        if not careful:
            ((used,),) = database.execute("SELECT sum(memory_usage_bytes) FROM duckdb_memory()").fetchall()
            database.execute(f"SET memory_limit = '{used + 2**18}B'")
        return digests

    monkeypatch.setattr(DuckDBDatabase, "replace", replace_with_little_memory)
    path = tmp_path / "p.duckdb"
    batches = [[{**row, "id": 100 * batch + place} for place, row in enumerate(ROWS)] for batch in range(50)]
    written(path, "duckdb", *batches)
    assert attempts == [False, True]
    assert verify(path).account.sums.whole.rows == 3_000
