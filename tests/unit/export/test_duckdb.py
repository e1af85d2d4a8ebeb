"""What DuckDB does with names, in exports made by it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pytest

from b2b_payments import ConfigurationError
from b2b_payments.export import ExportError, sink_for, verify
from b2b_payments.export._reading import read_payments
from b2b_payments.sync import store_for
from tests.support.export_reading import connected_to, tables_in
from tests.support.exporting import ROWS, exported, written
from tests.support.program import invoke, sentence

FORMATS = pytest.mark.parametrize("format_", ["parquet", "duckdb"])


def ids_in(path: Path, format_: str) -> list[int]:
    """Return the ids of the payments in an export."""
    return sorted(row["id"] for row in tables_in(path, format_)[0])


@pytest.mark.parametrize(
    ("name", "format_"),
    [
        *(("p*", "parquet"), ("p?", "duckdb"), ("p[X]", "parquet"), ("p[!a]", "duckdb")),
        *(("{p,pX}", "parquet"), ("**", "duckdb")),
    ],
)
def test_name_that_matches_other_files(tmp_path: Path, name: str, format_: str) -> None:
    """An export reads its own log only, even if its name is a pattern that matches an interrupted one's."""
    other = sink_for(tmp_path / f"pX.{format_}")
    written(other, ROWS[:8])
    other.close(complete=False)
    path = tmp_path / f"{name}.{format_}"
    exported(sink_for(path), ROWS[8:])
    assert ids_in(path, format_) == sorted(row["id"] for row in ROWS[8:])
    exported(other, resume=True)
    assert verify(path).account.sums.whole.rows == len(list(read_payments(path, format_))) == len(ROWS[8:])


@pytest.mark.parametrize(
    ("folder", "format_"),
    [
        *(("total=5", "parquet"), ("id=3", "duckdb"), ("currency=EUR", "parquet")),
        *(("line_items=1", "duckdb"), ("filename=x", "parquet"), ("segment=1", "duckdb")),
    ],
)
def test_folder_that_looks_like_a_partition(tmp_path: Path, folder: str, format_: str) -> None:
    """A folder called NAME=VALUE adds no column, to the log or to the output."""
    path = tmp_path / folder / f"p.{format_}"
    path.parent.mkdir()
    exported(sink_for(path))
    assert ids_in(path, format_) == sorted(row["id"] for row in ROWS)
    assert verify(path).account.sums.whole.rows == len(ROWS)
    elsewhere = tmp_path / f"p.{format_}"
    exported(sink_for(elsewhere))
    assert list(read_payments(path, format_)) == list(read_payments(elsewhere, format_))


@FORMATS
def test_backslash(tmp_path: Path, format_: str) -> None:
    r"""A name with \, which DuckDB reads as /, is refused before anything is written."""
    (tmp_path / "b").mkdir()
    mine = tmp_path / "b" / f"c.{format_}"
    exported(sink_for(mine), ROWS[:4])
    before = mine.read_bytes()
    with pytest.raises(ConfigurationError, match="DuckDB reads a backslash as /, so give another name"):
        sink_for(tmp_path / rf"b\c.{format_}")
    with pytest.raises(ConfigurationError, match="DuckDB reads a backslash as /, so give another name"):
        sink_for(rf"memory://bucket/b\c.{format_}")
    if format_ == "duckdb":
        copy = str(tmp_path / r"b\d.duckdb")
        assert "DuckDB reads a backslash as /" in sentence(invoke(None, "sync", "--sandbox", "--to", copy), 2)
        assert store_for(copy).exists is False
    assert sorted(one.name for one in tmp_path.rglob("*")) == ["b", mine.name, f"{mine.name}.manifest.json"]
    assert mine.read_bytes() == before


def test_folder_with_a_question_mark(tmp_path: Path) -> None:
    """A folder with ? in its name, in which DuckDB cannot commit, is refused before anything is fetched."""
    (tmp_path / "why?").mkdir()
    with pytest.raises(ConfigurationError, match=r"DuckDB cannot write into a folder with \? in its name"):
        sink_for(tmp_path / "why?" / "p.duckdb")
    exported(sink_for(tmp_path / "why?.duckdb"))
    exported(sink_for(tmp_path / "why?" / "p.parquet"))


@pytest.mark.parametrize(
    "name",
    ["information_schema", "system", "temp", "main", "memory", "pg_catalog", "SELECT", 'a"b', "x.y", ""],
)
def test_name_that_means_something(tmp_path: Path, name: str) -> None:
    """A database may have any name, also one of DuckDB's own schemas."""
    path = tmp_path / f"{name}.duckdb"
    for _ in range(2):
        exported(sink_for(path, "duckdb"))
        assert verify(path).account.sums.whole.rows == len(ROWS)


def test_macros(tmp_path: Path) -> None:
    """Macros of the user's with the names of DuckDB's functions do not affect the rows, nor `verify`."""
    path, plain = tmp_path / "p.duckdb", tmp_path / "plain.duckdb"
    exported(sink_for(plain))
    with duckdb.connect(str(path)) as db:
        db.execute("CREATE MACRO make_timestamptz(x) AS TIMESTAMPTZ '2001-01-01 00:00:00+00'")
        db.execute("CREATE MACRO epoch_us(x) AS 5")
        for name in (
            "sha256(x)",
            "json_array(x)",
            "current_database()",
            "sum(x)",
            "max(x)",
            "substr(x, y, z)",
        ):
            db.execute(f"CREATE MACRO {name} AS 7")
        for name in (
            "read_json(x)",
            "duckdb_columns()",
            "duckdb_tables()",
            "duckdb_constraints()",
            "duckdb_triggers()",
        ):
            db.execute(f"CREATE MACRO {name} AS TABLE SELECT 1 AS id")
    for _ in range(2):
        exported(sink_for(path))
        assert verify(path).account.sums.whole.rows == len(ROWS)
    assert list(read_payments(path, "duckdb")) == list(read_payments(plain, "duckdb"))
    with duckdb.connect(str(path)) as db:
        assert db.execute("SELECT sha256(1)").fetchall() == [(7,)]


REFUSED = [
    (
        ["CREATE TABLE books (payment BIGINT REFERENCES payments)"],
        "A foreign key of the table books refers to payments in",
    ),
    (
        ["CREATE TABLE books (id BIGINT, line BIGINT, FOREIGN KEY (id, line) REFERENCES line_items)"],
        "A foreign key of the table books refers to line_items in",
    ),
    (
        [
            "CREATE TABLE books (payment BIGINT)",
            "CREATE TRIGGER mine AFTER INSERT ON line_items FOR EACH STATEMENT INSERT INTO books VALUES (1)",
        ],
        "The trigger mine is on line_items in",
    ),
    (
        [
            "CREATE TABLE again AS FROM payments",
            "DROP TABLE payments",
            "ALTER TABLE again RENAME TO payments",
        ],
        "has a table payments with columns other than an export's, or another key",
    ),
]


@pytest.mark.parametrize(("script", "says"), REFUSED)
def test_what_it_cannot_replace(tmp_path: Path, script: Sequence[str], says: str) -> None:
    """What makes DuckDB fail at the end of an export is refused before anything is fetched."""
    path = tmp_path / "p.duckdb"
    exported(sink_for(path))
    with duckdb.connect(str(path)) as db:
        for statement in script:
            db.execute(statement)
    sink = sink_for(path)
    with pytest.raises(ConfigurationError, match=says):
        sink.open()
    sink.close(complete=False)
    assert ids_in(path, "duckdb") == [row["id"] for row in ROWS]


def test_other_schemas(tmp_path: Path) -> None:
    """Tables of the same names in other schemas may have foreign keys and no keys of their own."""
    path = tmp_path / "p.duckdb"
    with duckdb.connect(str(path)) as db:
        db.execute("CREATE SCHEMA other; USE other")
        db.execute("CREATE TABLE payments (id BIGINT UNIQUE)")
        db.execute("CREATE TABLE books (payment BIGINT REFERENCES payments (id))")
    for _ in range(2):
        exported(sink_for(path))
    assert verify(path).account.sums.whole.rows == len(ROWS)


@pytest.mark.parametrize("kind", ["sqlite", "sqlite with a trigger", "duckdb"])
def test_unique_values_that_move(tmp_path: Path, kind: str) -> None:
    """A user's unique index stays, although its values move from one payment to another."""
    path, (format_, *has_trigger) = tmp_path / "p", kind.split(maxsplit=1)
    rows = [{**row, "externalId": f"x{number}"} for number, row in enumerate(ROWS)]
    exported(sink_for(path, format_), rows)
    with connected_to(path, format_) as db:
        db.execute("CREATE UNIQUE INDEX mine ON payments (external_id)")
        if has_trigger:
            db.execute("CREATE TRIGGER seen AFTER UPDATE ON payments BEGIN SELECT 1; END")
    moved = [{**row, "externalId": f"x{number}"} for number, row in enumerate(reversed(ROWS))]
    exported(sink_for(path, format_), moved)
    assert verify(path).account.sums.whole.rows == len(ROWS)
    with pytest.raises(ExportError, match=r"(?i)unique.*external_id|duplicate key"):
        exported(sink_for(path, format_), [{**row, "externalId": "x"} for row in ROWS])
    assert {row["external_id"]: row["id"] for row in tables_in(path, format_)[0]} == {
        row["externalId"]: row["id"] for row in moved
    }
