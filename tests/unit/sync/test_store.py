"""Which database a path names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from b2b_payments import ConfigurationError
from b2b_payments.sync import DuckDBStore, SQLiteStore, Store, store_for


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.duckdb", DuckDBStore),
        ("a.DuckDB", DuckDBStore),
        ("a.db", SQLiteStore),
        ("a.sqlite", SQLiteStore),
        ("a.sqlite3", SQLiteStore),
    ],
)
def test_endings(tmp_path: Path, name: str, kind: type[Store]) -> None:
    """The ending says which database it is."""
    store = store_for(tmp_path / name)
    assert type(store) is kind
    assert repr(store) == f"{kind.__name__}({str(tmp_path / name)!r})"


@pytest.mark.parametrize("name", ["a", "a.csv", "a.jsonl", ".db"])
def test_another_ending(tmp_path: Path, name: str) -> None:
    """Any other ending is told of with those that are known."""
    with pytest.raises(ConfigurationError, match=r"does not say its database: .* \.duckdb, \.sqlite"):
        store_for(tmp_path / name)


@pytest.mark.parametrize("name", ["nowhere/a.db", "nowhere/a.duckdb"])
def test_unwritable_path(tmp_path: Path, name: str) -> None:
    """A path that cannot be written to is told of at once."""
    with pytest.raises(ConfigurationError, match=r"cannot be written: .*nowhere is not a folder"):
        store_for(tmp_path / name)


@pytest.mark.parametrize(
    ("library", "extra", "to"),
    [("duckdb", "duckdb", "a.duckdb"), ("psycopg", "postgres", "postgresql://user:geheim@host/db")],
)
def test_missing_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, library: str, extra: str, to: str
) -> None:
    """Without the extra, one sentence says how to install it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigurationError, match=rf"pip install 'b2b-payments\[{extra}\]'") as caught:
        store_for(to)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    "to",
    [
        " postgresql://user:geheim@host/db",
        "jdbc:postgresql://user:geheim@host/db",
        "'postgresql://user:geheim@host/db'",
        "psql postgresql://user:geheim@host/db",
        "postgresql//user:geheim@host/db",
        "user:geheim@host:5432/db",
        "host=host\npassword=geheim",
        "host=host sslpassword=geheim",
    ],
)
@pytest.mark.parametrize("schema", [None, "copy"])
def test_almost_an_address(to: str, schema: str | None) -> None:
    """What may be a mistyped address is never shown, since there may be a password in it."""
    with pytest.raises(ConfigurationError, match="address of a database begins with postgresql://") as caught:
        store_for(to, schema=schema)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("name", ["10:30@host.sqlite", "postgres/copy.db", "postgresql.duckdb"])
def test_almost_a_path(tmp_path: Path, name: str) -> None:
    """A path that looks a little like an address is a path."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    assert isinstance(store_for(tmp_path / name), SQLiteStore | DuckDBStore)
