"""Exports that are not proven complete, and what an interrupted export leaves."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from b2b_payments.export import Checkpoint, PlacedSink, sink_for, verify
from b2b_payments.export._csv import read_columns
from b2b_payments.sandbox import Sandbox
from tests.support.export_reading import FORMATS, account_of, ids_in

ROWS: list[dict[str, Any]] = list(Sandbox(payments=30).store.all_wire())
DATABASES = ("sqlite", "duckdb")


def exported(path: Path, format_: str, rows: list[dict[str, Any]], *, complete: bool) -> PlacedSink:
    """Export payments as of a walk that was proven complete or not."""
    sink = sink_for(path, format_)
    sink.open()
    sink.write(rows)
    sink.commit({"account": account_of(rows) | {"complete": complete}})
    sink.close(complete=True)
    return sink


@pytest.mark.parametrize("format_", FORMATS)
def test_a_complete_export_stays(tmp_path: Path, format_: str) -> None:
    """A complete export stays; the incomplete one is written next to it, with its own manifest."""
    path, beside = tmp_path / f"p.{format_}", tmp_path / f"p.incomplete.{format_}"
    assert exported(path, format_, ROWS, complete=True).instead is None
    for count in (5, 10):
        assert exported(path, format_, ROWS[:count], complete=False).instead == beside
        assert verify(path).account.complete
        assert len(ids_in(path, format_)) == 30
        assert not verify(beside).account.complete
        assert ids_in(beside, format_) == [row["id"] for row in ROWS[:count]]
    assert not [found for found in tmp_path.iterdir() if found.name.startswith(".")]
    assert exported(path, format_, ROWS[:20], complete=True).instead is None
    assert len(ids_in(path, format_)) == 20


@pytest.mark.parametrize("format_", DATABASES)
def test_a_damaged_incomplete_export_does_not_matter(tmp_path: Path, format_: str) -> None:
    """A complete export touches nothing at the place of an incomplete one."""
    path, beside = tmp_path / f"p.{format_}", tmp_path / f"p.incomplete.{format_}"
    beside.write_bytes(b"damaged" * 1_000)
    for _ in range(2):
        assert exported(path, format_, ROWS, complete=True).instead is None
    assert beside.read_bytes() == b"damaged" * 1_000


def test_reopened_sink_forgets_where_it_wrote(tmp_path: Path) -> None:
    """`instead` is about the latest export of a sink, not about an earlier one."""
    exported(tmp_path / "p.jsonl", "jsonl", ROWS, complete=True)
    sink = exported(tmp_path / "p.jsonl", "jsonl", ROWS[:5], complete=False)
    beside = sink.instead
    assert beside is not None
    sink.open()
    sink.write(ROWS)
    sink.commit({"account": account_of(ROWS) | {"complete": True}})
    sink.close(complete=True)
    assert sink.instead is None
    assert verify(tmp_path / "p.jsonl").account.complete


def test_readers_leave_the_limit_of_csv_alone(tmp_path: Path) -> None:
    """Reading CSV files back, several at once, changes nothing for the rest of the process."""
    path = tmp_path / "p.csv"
    exported(path, "csv", ROWS, complete=True)
    limit = csv.field_size_limit()
    readers = [read_columns(path, ["id"]) for _ in range(2)]
    for _ in ROWS:
        first, second = map(next, readers)
        assert first == second
        assert csv.field_size_limit() == limit


@pytest.mark.parametrize("format_", FORMATS)
def test_an_incomplete_export_is_replaced(tmp_path: Path, format_: str) -> None:
    """An incomplete export is replaced by the next export, complete or not."""
    path = tmp_path / f"p.{format_}"
    for count, complete in ((5, False), (10, False), (15, True)):
        assert exported(path, format_, ROWS[:count], complete=complete).instead is None
        assert verify(path).account.complete is complete
        assert len(ids_in(path, format_)) == count


@pytest.mark.parametrize("format_", FORMATS)
def test_without_a_manifest(tmp_path: Path, format_: str) -> None:
    """A file or rows without a manifest may be complete, so they are not replaced."""
    path = tmp_path / f"p.{format_}"
    exported(path, format_, ROWS, complete=False)
    manifest = path.with_name(f"{path.name}.manifest.json")
    manifest.unlink()
    assert exported(path, format_, ROWS[:5], complete=False).instead is not None
    assert len(ids_in(path, format_)) == 30
    assert not manifest.exists()


def test_complete_export_at_the_incomplete_name_stays(tmp_path: Path) -> None:
    """A complete export at the `.incomplete` name is not replaced, either."""
    path, beside = tmp_path / "p.csv", tmp_path / "p.incomplete.csv"
    exported(path, "csv", ROWS, complete=True)
    exported(beside, "csv", ROWS, complete=True)
    sink = exported(path, "csv", ROWS[:5], complete=False)
    assert sink.instead == tmp_path / "p.incomplete.incomplete.csv"
    assert verify(path).account.complete
    assert verify(beside).account.complete
    assert verify(sink.instead).account.sums.whole.rows == 5


@pytest.mark.parametrize("format_", DATABASES)
def test_a_database_without_payments(tmp_path: Path, format_: str) -> None:
    """Empty tables are filled by an incomplete export."""
    path = tmp_path / f"p.{format_}"
    exported(path, format_, [], complete=True)
    exported(path, format_, ROWS[:5], complete=False)
    assert len(ids_in(path, format_)) == 5


def test_manifest_without_its_file(tmp_path: Path) -> None:
    """A manifest without its file does not protect the path."""
    path = tmp_path / "p.jsonl"
    exported(path, "jsonl", ROWS, complete=True)
    path.unlink()
    assert exported(path, "jsonl", ROWS[:5], complete=False).instead is None
    assert ids_in(path, "jsonl") == [row["id"] for row in ROWS[:5]]


@pytest.mark.parametrize("format_", FORMATS)
def test_committed_rows(tmp_path: Path, format_: str) -> None:
    """`rows` counts committed payments only, including those of the interrupted export."""
    sink = sink_for(tmp_path / f"p.{format_}", format_)
    for again in range(2):
        sink.open()
        sink.write(ROWS[:7])
        assert sink.rows == 0, again
        sink.commit({"account": account_of(ROWS[:7])})
        assert sink.rows == 7
        sink.close(complete=False)
        assert (sink.rows, sink.kept, sink.resumed) == (7, True, False)
    later = sink_for(tmp_path / f"p.{format_}", format_)
    assert (later.rows, later.kept) == (0, True)
    later.resume()
    later.write(ROWS[7:])
    assert (later.rows, later.resumed) == (7, True)
    later.commit({"account": account_of(ROWS)})
    later.close(complete=True)
    assert (later.rows, later.kept) == (30, False)


@pytest.mark.parametrize("checkpoint", [{}, {"account": 5}, {"account": {"rows": "many"}}])
def test_committed_rows_of_another_version(tmp_path: Path, checkpoint: Checkpoint) -> None:
    """A checkpoint without a number of rows counts as zero rows."""
    path = tmp_path / "p.jsonl"
    sink = sink_for(path)
    sink.open()
    sink.commit(checkpoint)
    sink.close(complete=False)
    later = sink_for(path)
    assert later.resume() == checkpoint
    later.close(complete=False)
    assert (later.rows, later.resumed) == (0, True)


def test_reopened_sink(tmp_path: Path) -> None:
    """Opening a sink again forgets what it committed before."""
    sink = sink_for(tmp_path / "p.csv")
    sink.open()
    sink.commit({"account": account_of([])})
    sink.close(complete=False)
    sink.open()
    sink.close(complete=False)
    assert not sink.kept
    assert not [*tmp_path.iterdir()]
