"""Where a copy is kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from b2b_payments._errors import ConfigurationError
from b2b_payments._printable import repr_when_incomplete
from b2b_payments.export._database import Database
from b2b_payments.export._duckdb import DuckDBDatabase
from b2b_payments.export._file import PathLike, writable
from b2b_payments.export._sqlite import SQLiteDatabase


@repr_when_incomplete
class Store:
    """A database that holds the copy of one store, in tables `payments` and `line_items`.

    Their columns are those of an export. May be used for one sync after the other. Raises
    ConfigurationError for a path that cannot be written to, or where the database's extra is missing.
    """

    database: ClassVar[type[Database]]

    def __init__(self, path: PathLike) -> None:
        self.path: Path = Path(path)
        writable(self.path)
        self.database.failures()  # is it installed?

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"


class SQLiteStore(Store):
    """A copy in SQLite: money and times are text there, exact. Otherwise as `Store`."""

    database: ClassVar[type[Database]] = SQLiteDatabase


class DuckDBStore(Store):
    """A copy in DuckDB (extra `duckdb`): money is DECIMAL(38, 12), times TIMESTAMPTZ."""

    database: ClassVar[type[Database]] = DuckDBDatabase


_STORES: dict[str, type[Store]] = {
    ".duckdb": DuckDBStore,
    ".sqlite": SQLiteStore,
    ".sqlite3": SQLiteStore,
    ".db": SQLiteStore,
}


def store_for(path: PathLike) -> Store:
    """Give the store that the path's ending names: ``.duckdb``, ``.sqlite``, ``.sqlite3`` or ``.db``.

    Raises ConfigurationError for another ending, and as `Store` does.
    """
    kind = _STORES.get(Path(path).suffix.lower())
    if os.path.isdir(path):
        raise ConfigurationError(f"{path} cannot be written: it is a folder; name a file in it.")
    if kind is None:
        known = ", ".join(_STORES)
        raise ConfigurationError(f"{path} does not say its database: give it one of the endings {known}.")
    return kind(path)
