"""Where a copy is kept."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from b2b_payments._errors import ConfigurationError
from b2b_payments._printable import repr_when_incomplete
from b2b_payments.export._database import Database, FileDatabase
from b2b_payments.export._duckdb import DuckDBDatabase
from b2b_payments.export._file import PathLike, writable
from b2b_payments.export._sqlite import SQLiteDatabase
from b2b_payments.sync._access import Access, FileAccess


@repr_when_incomplete
class Store(ABC):
    """A database that holds the copy of one store, in tables `payments` and `line_items`.

    Their columns are those of an export. May be used for one sync after the other.
    """

    database: ClassVar[type[Database]]
    kept_in: ClassVar[str]
    """What a copy has for itself alone."""

    @property
    @abstractmethod
    def place(self) -> object:
        """Where the copy is; its text is for messages."""

    @abstractmethod
    def access(self) -> Access:
        """Give the way in for one sync. Raises ConfigurationError where there can be none."""

    @property
    @abstractmethod
    def exists(self) -> bool:
        """Whether there may be a copy."""


class FileStore(Store):
    """A copy in a file.

    Raises ConfigurationError for a path that cannot be written to, or where the database's extra is missing.
    """

    database: ClassVar[type[FileDatabase]]
    kept_in = "file"

    def __init__(self, path: PathLike) -> None:
        self.path: Path = Path(path)
        writable(self.path)
        self.database.failures()  # is it installed?

    @property
    def place(self) -> Path:
        """Its path."""
        return self.path

    @property
    def exists(self) -> bool:
        """Whether the file is there."""
        return self.path.exists()

    def access(self) -> Access:
        """Give the way in for one sync."""
        return FileAccess(self.database, self.path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"


class SQLiteStore(FileStore):
    """A copy in SQLite: money and times are text there, exact. Otherwise as `FileStore`."""

    database: ClassVar[type[FileDatabase]] = SQLiteDatabase


class DuckDBStore(FileStore):
    """A copy in DuckDB (extra `duckdb`): money is DECIMAL(38, 12), times TIMESTAMPTZ."""

    database: ClassVar[type[FileDatabase]] = DuckDBDatabase


_STORES: dict[str, type[FileStore]] = {
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
