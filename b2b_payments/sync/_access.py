"""The way into a copy for one sync, which keeps other syncs out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

from b2b_payments._errors import AlreadyRunningError, ConfigurationError
from b2b_payments.export._database import Database, FileDatabase, told
from b2b_payments.export._file import Lock, writable
from b2b_payments.export._postgres import PostgresDatabase, Server


class Access(ABC):
    """The way into a copy: acquired first, then connected, and released in the end."""

    @property
    @abstractmethod
    def held(self) -> bool:
        """Whether it was acquired, and not released since."""

    @property
    @abstractmethod
    def exists(self) -> bool:
        """Whether there is a database that may hold a copy."""

    @abstractmethod
    def acquire(self) -> None:
        """Keep others out. Raises AlreadyRunningError where another has it, ExportError where it fails."""

    @abstractmethod
    def connect(self) -> Database:
        """Give the database. Raises what the database does."""

    @abstractmethod
    def release(self) -> None:
        """Let others in. Nothing happens where it is not held."""


class FileAccess(Access):
    """A file, with a locked one beside it. Raises ConfigurationError for one that cannot be written."""

    def __init__(self, kind: type[FileDatabase], path: Path) -> None:
        self._kind = kind
        self._target = writable(path)
        self._lock = Lock(self._target)

    @property
    def held(self) -> bool:
        return self._lock.held

    @property
    def exists(self) -> bool:
        return self._target.exists()

    def acquire(self) -> None:
        self._lock.acquire()

    def connect(self) -> Database:
        return self._kind.connect(self._target)

    def release(self) -> None:
        self._lock.release()


class ServerAccess(Access):
    """A schema on a server: who has the lock there has it as long as the connection lasts, which writes."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._database: PostgresDatabase | None = None

    @property
    def held(self) -> bool:
        return self._database is not None

    @property
    def exists(self) -> bool:
        return True

    def acquire(self) -> None:
        if self._database is not None:
            return
        with told(PostgresDatabase, self._server, "reached"):
            database = PostgresDatabase.connect(self._server)
            try:
                locked = database.lock()
            except BaseException:
                database.close()
                raise
        if not locked:
            database.close()
            raise AlreadyRunningError(f"Another sync is writing {self._server}; wait until it has ended.")
        self._database = database

    def connect(self) -> Database:
        if self._database is None:
            raise ConfigurationError(f"{self._server} was not acquired.")
        return self._database

    def release(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            with suppress(database.failures()):
                database.close()
