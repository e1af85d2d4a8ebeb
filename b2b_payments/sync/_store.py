"""The databases that can hold a copy."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import ClassVar

from b2b_payments._errors import AlreadyRunningError, ConfigurationError
from b2b_payments._formats import FORMATS, format_by_ending
from b2b_payments._printable import repr_when_incomplete
from b2b_payments.export._database import Database, FileDatabase, as_export_error
from b2b_payments.export._duckdb import DuckDBDatabase
from b2b_payments.export._file import Lock, PathLike, path_of, writable
from b2b_payments.export._postgres import PostgresDatabase
from b2b_payments.export._server import Server, is_postgres
from b2b_payments.export._sqlite import SQLiteDatabase

SCHEMA = "b2b_payments"
"""The default schema of a copy in PostgreSQL."""


@repr_when_incomplete
class Store(ABC):
    """A database that holds the copy of one store, in the tables `payments` and `line_items`.

    Their columns are those of an export. It can be used for several syncs, one after the other.
    """

    database: ClassVar[type[Database]]
    kept_in: ClassVar[str]
    """The unit of the database that holds exactly one copy, for messages: "file" or "schema"."""

    @property
    @abstractmethod
    def place(self) -> object:
        """Where the copy is. `str` of it is shown in messages."""

    @property
    @abstractmethod
    def exists(self) -> bool:
        """Whether a copy may exist."""

    @abstractmethod
    def held(self) -> AbstractContextManager[Callable[[], Database]]:
        """Lock the copy, and yield a function that connects to its database. The exit closes both.

        Raises AlreadyRunningError if another sync has the lock, ExportError if the database cannot be
        reached, and ConfigurationError if no copy can be kept there.
        """


@repr_when_incomplete
class FileStore(Store):
    """A copy in a file.

    Raises ConfigurationError if the path cannot be written to, or the database's extra is not installed.
    """

    database: ClassVar[type[FileDatabase]]
    kept_in: ClassVar[str] = "file"

    def __init__(self, path: PathLike) -> None:
        writable(path)
        self.path: Path = Path(path_of(path))
        self.database.failures()  # raises if the extra is not installed

    @property
    def place(self) -> Path:
        return self.path

    @property
    def exists(self) -> bool:
        return self.path.exists()

    @contextmanager
    def held(self) -> Iterator[Callable[[], Database]]:
        target = writable(self.path)
        with Lock(target), ExitStack() as stack:
            yield lambda: stack.enter_context(closing(self.database.connect(target)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"


class SQLiteStore(FileStore):
    """A copy in SQLite. Amounts and times are stored as exact text."""

    database: ClassVar[type[FileDatabase]] = SQLiteDatabase


class DuckDBStore(FileStore):
    """A copy in DuckDB (extra `duckdb`). Amounts are DECIMAL(38, 12), times TIMESTAMPTZ."""

    database: ClassVar[type[FileDatabase]] = DuckDBDatabase


@repr_when_incomplete
class PostgresStore(Store):
    """A copy in PostgreSQL (extra `postgres`). Amounts are numeric, times timestamptz, JSON jsonb.

    `dsn` is a libpq address, such as ``postgresql://user@host:5432/name``; missing parts come from libpq's
    environment variables and files, such as ``PGPASSWORD`` and ``~/.pgpass``. Only the
    host, port and database name are ever shown. The copy has its own `schema`, which the first sync creates
    if needed. Views, grants, indexes, triggers and columns that others add to it stay.

    Raises ConfigurationError for an invalid address or schema name, and if the extra is not installed.
    """

    database: ClassVar[type[Database]] = PostgresDatabase
    kept_in: ClassVar[str] = "schema"

    def __init__(self, dsn: str, *, schema: str = SCHEMA) -> None:
        self._server = Server(dsn, schema)

    @property
    def place(self) -> Server:
        return self._server

    @property
    def exists(self) -> bool:
        return True  # only the server knows whether it does

    @contextmanager
    def held(self) -> Iterator[Callable[[], Database]]:
        # The lock lasts as long as the connection, so the same connection does the writing.
        with ExitStack() as stack:
            with as_export_error(PostgresDatabase, self._server, "reached"):
                database = stack.enter_context(closing(PostgresDatabase.connect(self._server)))
                locked = database.lock()
            if not locked:
                raise AlreadyRunningError(f"Another sync is writing {self._server}; wait until it has ended.")
            yield lambda: database

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._server)!r})"


# Matches texts that may hold a password, so that they are not shown: not only valid addresses, but no path
# with one of the endings below.
_may_be_address = re.compile(
    r"://|(?:^|\s)postgres\w*:|passw\w*\s*=|:[^/\\]+@(?!.*\.(?:duckdb|sqlite3?|db)$)", re.IGNORECASE
).search
_STORES: dict[str, type[FileStore]] = {"duckdb": DuckDBStore, "sqlite": SQLiteStore}


def is_address(to: str) -> bool:
    """Whether `to` is a PostgreSQL address. Raises ConfigurationError for what may be another address."""
    if is_postgres(to):
        return True
    if _may_be_address(to):
        raise ConfigurationError(
            "The address of a database begins with postgresql://, as in postgresql://user@host:5432/name."
        )
    return False


def store_for(to: PathLike, *, schema: str | None = None) -> Store:
    """Return the store for a path, by its ending, or for an address ``postgresql://…``, with its `schema`.

    The endings are ``.duckdb``, ``.sqlite``, ``.sqlite3`` and ``.db``. Raises ConfigurationError for anything
    else, and whatever the store's class raises.
    """
    text = os.fspath(path_of(to))
    if is_address(text):
        return PostgresStore(text, schema=SCHEMA if schema is None else schema)
    if schema is not None:
        raise ConfigurationError(f"{to} is a file, and only a database on a server has a schema.")
    kind = _STORES.get(format_by_ending(text) or "")
    if os.path.isdir(text):
        raise ConfigurationError(f"{to} cannot be written: it is a folder; name a file in it.")
    if kind is None:
        endings = ", ".join(ending for name in _STORES for ending in FORMATS[name].endings)
        raise ConfigurationError(
            f"The database of {to} is unknown: use one of the extensions {endings}, "
            "or an address such as postgresql://host/database."
        )
    return kind(text)
