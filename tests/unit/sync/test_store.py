"""Paths and addresses of copies: which database they name, and that passwords are not shown."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from b2b_payments import ConfigurationError
from b2b_payments.sync import DuckDBStore, PostgresStore, SQLiteStore, Store, store_for
from tests.support.program import invoke


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
    """The ending of a path decides which database it is."""
    store = store_for(tmp_path / name)
    assert type(store) is kind
    assert repr(store) == f"{kind.__name__}({str(tmp_path / name)!r})"


@pytest.mark.parametrize("name", ["a", "a.csv", "a.jsonl", ".db"])
def test_unknown_ending(tmp_path: Path, name: str) -> None:
    """Any other ending is refused, and the error lists the known ones."""
    with pytest.raises(ConfigurationError, match=r"is unknown: use one of the extensions \.duckdb, \.sqlite"):
        store_for(tmp_path / name)


@pytest.mark.parametrize("name", ["nowhere/a.db", "nowhere/a.duckdb"])
def test_unwritable_path(tmp_path: Path, name: str) -> None:
    """A path that cannot be written to is refused at once."""
    with pytest.raises(ConfigurationError, match=r"cannot be written: .*nowhere is not a folder"):
        store_for(tmp_path / name)


@pytest.mark.parametrize(
    ("library", "extra", "to"),
    [("duckdb", "duckdb", "a.duckdb"), ("psycopg", "postgres", "postgresql://user:geheim@host/db")],
)
def test_missing_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, library: str, extra: str, to: str
) -> None:
    """Without the extra, the error says how to install it."""
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
def test_mistyped_address(to: str, schema: str | None) -> None:
    """What may be a mistyped address is never shown, since it may hold a password."""
    with pytest.raises(ConfigurationError, match="address of a database begins with postgresql://") as caught:
        store_for(to, schema=schema)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("name", ["10:30@host.sqlite", "postgres/copy.db", "postgresql.duckdb"])
def test_path_like_an_address(tmp_path: Path, name: str) -> None:
    """A path that looks a little like an address is still a path."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    assert isinstance(store_for(tmp_path / name), SQLiteStore | DuckDBStore)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://user:hunter2/geheim@host/db",
        "postgresql://user:12/geheim@host/db",
        "postgresql://user:hunter2@geheim@host/db",
        "postgresql://host/db&password=geheim",
        "postgresql://host:geheim/db",
        "postgresql://user:geheim%@host/db",
        "host=localhost password='geheim",
        "host=localhost geheim",
        "postgresql://host/db?geheim=1",
    ],
)
def test_invalid_address(dsn: str) -> None:
    """An invalid address is refused without showing any part of it: each may be part of the password."""
    with pytest.raises(ConfigurationError, match=r"^The database's address cannot be read") as caught:
        PostgresStore(dsn)
    assert "geheim" not in repr(caught.value)


@pytest.mark.parametrize(
    "to",
    [
        "postgres:/user:geheim@host/db",
        "mysql://user:geheim@host/db",
        "postgresql:user:geheim@host/db.sqlite",
        "host=h password=geheim",
        "PostgreSQL://user:geheim@host/db",
    ],
)
def test_other_addresses(to: str) -> None:
    """Other addresses are refused without being shown, on the command line too."""
    with pytest.raises(ConfigurationError, match="begins with postgresql://") as caught:
        store_for(to)
    assert "geheim" not in repr(caught.value)
    result = invoke(None, "sync", "--to", to, "--sandbox")
    assert result.exit_code == 2
    assert "geheim" not in result.output + result.stderr


@pytest.mark.parametrize("schema", ["", 'a"b', "a%b", "a?b", "x" * 64, "ü" * 32, "{name}", "a\nb"])
def test_invalid_schema_names(schema: str) -> None:
    """A name that a schema cannot have, or that PostgreSQL would truncate, is refused."""
    with pytest.raises(ConfigurationError, match="cannot be the name of a schema here"):
        PostgresStore("postgresql://host/db", schema=schema)


def test_file_with_a_schema(tmp_path: Path) -> None:
    """Files have no schemas."""
    with pytest.raises(ConfigurationError, match="only a database on a server has a schema"):
        store_for(tmp_path / "copy.sqlite", schema="x")


@pytest.mark.parametrize("command", [("export", "--sandbox", "--output"), ("report",), ("sync", "--to")])
def test_addresses_in_other_commands(command: tuple[str, ...]) -> None:
    """Commands that cannot use an address do not show it."""
    result = invoke(None, *command, "postgresql+psycopg://user:geheim@host/db")
    assert result.exit_code in {1, 2}
    assert "geheim" not in result.output + result.stderr + repr(result.exception)


def test_address_of_a_server() -> None:
    """The address of a PostgreSQL server is shown with host, port and database, but without credentials."""
    for given, shown in (
        ("postgresql://me:marked@db.test:5433/payments", "postgresql://db.test:5433/payments"),
        ("postgres://db.test/payments?user=me&password=marked", "postgresql://db.test/payments"),
    ):
        place = str(PostgresStore(given).place)
        assert shown in place
        assert "marked" not in place
