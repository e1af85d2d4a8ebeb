"""Where a copy is kept."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import ClassVar

from b2b_payments._errors import AlreadyRunningError, ConfigurationError
from b2b_payments._printable import repr_when_incomplete
from b2b_payments.export._database import Database, FileDatabase, as_export_error
from b2b_payments.export._duckdb import DuckDBDatabase
from b2b_payments.export._file import Lock, PathLike, path_of, writable
from b2b_payments.export._postgres import PostgresDatabase, Server, is_postgres
from b2b_payments.export._sqlite import SQLiteDatabase

SCHEMA = "b2b_payments"
"""Where a copy in PostgreSQL is, unless another schema is named."""


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

    @property
    @abstractmethod
    def exists(self) -> bool:
        """Whether there may be a copy."""

    @abstractmethod
    def held(self) -> AbstractContextManager[Callable[[], Database]]:
        """Keep other syncs out, and give what connects to the database, which is closed with it.

        Raises AlreadyRunningError where another has it, ExportError where it cannot be reached, and
        ConfigurationError where there can be no copy.
        """


@repr_when_incomplete
class FileStore(Store):
    """A copy in a file.

    Raises ConfigurationError for a path that cannot be written to, or where the database's extra is missing.
    """

    database: ClassVar[type[FileDatabase]]
    kept_in: ClassVar[str] = "file"

    def __init__(self, path: PathLike) -> None:
        writable(path)
        self.path: Path = Path(path_of(path))
        self.database.failures()  # is it installed?

    @property
    def place(self) -> Path:
        return self.path

    @property
    def exists(self) -> bool:
        return self.path.exists()

    @contextmanager
    def held(self) -> Iterator[Callable[[], Database]]:
        target = writable(self.path)
        lock = Lock(target)
        lock.acquire()
        with ExitStack() as stack:
            stack.callback(lock.release)
            yield lambda: stack.enter_context(closing(self.database.connect(target)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"


class SQLiteStore(FileStore):
    """A copy in SQLite: money and times are text there, exact. Otherwise as `FileStore`."""

    database: ClassVar[type[FileDatabase]] = SQLiteDatabase


class DuckDBStore(FileStore):
    """A copy in DuckDB (extra `duckdb`): money is DECIMAL(38, 12), times TIMESTAMPTZ."""

    database: ClassVar[type[FileDatabase]] = DuckDBDatabase


@repr_when_incomplete
class PostgresStore(Store):
    """A copy in PostgreSQL (extra `postgres`): money is numeric, times timestamptz, JSON jsonb.

    `dsn` is as libpq has it, such as ``postgresql://user@host:5432/name``; what it leaves out comes from
    ``PGPASSWORD``, ``~/.pgpass`` and the like. It is not shown. The copy has a `schema` of its own, which a
    first sync makes. Views, grants, indexes, triggers and further columns that others put there stay.

    Raises ConfigurationError for what is no address, for a name that no schema can have, and where the extra
    is missing.
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
        return True  # only the server knows

    @contextmanager
    def held(self) -> Iterator[Callable[[], Database]]:
        # Who has the lock there has it as long as the connection lasts, which writes.
        with ExitStack() as stack:
            with as_export_error(PostgresDatabase, self._server, "reached"):
                database = stack.enter_context(closing(PostgresDatabase.connect(self._server)))
                locked = database.lock()
            if not locked:
                raise AlreadyRunningError(f"Another sync is writing {self._server}; wait until it has ended.")
            yield lambda: database

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._server)!r})"


# What may have a password in it, and is not shown: more than an address is, but no path to a known ending.
_is_address = re.compile(
    r"://|(?:^|\s)postgres\w*:|passw\w*\s*=|:[^/\\]+@(?!.*\.(?:duckdb|sqlite3?|db)$)", re.IGNORECASE
).search
_STORES: dict[str, type[FileStore]] = {
    ".duckdb": DuckDBStore,
    ".sqlite": SQLiteStore,
    ".sqlite3": SQLiteStore,
    ".db": SQLiteStore,
}


def is_address(to: str) -> bool:
    """Whether a copy is to be on a server. Raises ConfigurationError for another kind of server."""
    if is_postgres(to):
        return True
    if _is_address(to):
        raise ConfigurationError(
            "The address of a database begins with postgresql://, as in postgresql://user@host:5432/name."
        )
    return False


def store_for(to: PathLike, *, schema: str | None = None) -> Store:
    """Return the store that a path's ending names, or an address ``postgresql://…``, with its `schema` there.

    The endings are ``.duckdb``, ``.sqlite``, ``.sqlite3`` and ``.db``. Raises ConfigurationError for anything
    else, and as the stores do.
    """
    text = os.fspath(path_of(to))
    if is_address(text):
        return PostgresStore(text, schema=SCHEMA if schema is None else schema)
    if schema is not None:
        raise ConfigurationError(f"{to} is a file, and only a database on a server has a schema.")
    kind = _STORES.get(Path(text).suffix.lower())
    if os.path.isdir(text):
        raise ConfigurationError(f"{to} cannot be written: it is a folder; name a file in it.")
    if kind is None:
        known = ", ".join(_STORES)
        raise ConfigurationError(f"{to} does not say its database: give it one of the endings {known}.")
    return kind(text)
