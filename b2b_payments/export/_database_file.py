"""A database's file while it is being written to: locked, and its errors told as sentences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from b2b_payments._errors import ConfigurationError, ExportError
from b2b_payments.export._database import Database, reason_of
from b2b_payments.export._file import Lock, PathLike, writable, writing


class DatabaseFile:
    """A database that is locked, then opened when it is first used, and let go at the end.

    Raises ConfigurationError for a path that cannot be written to; its methods raise ExportError.
    """

    def __init__(self, path: PathLike, kind: type[Database]) -> None:
        self.path: Path = Path(path)
        self.target: Path = writable(self.path)
        self._kind = kind
        self._failures = kind.failures()
        self._lock = Lock(self.target)
        self._database: Database | None = None
        self._new = False

    def lock(self) -> None:
        """Keep others from writing to it. Raises ExportError where one does."""
        self._lock.acquire()

    @contextmanager
    def writing(self) -> Iterator[Database]:
        """Give the database; what it raises becomes a sentence."""
        with writing(self.path):
            if self._database is None:
                if not self._lock.held:
                    raise ConfigurationError(f"{self.path} is not open: call open() first.")
                self._new = not self.target.exists()
            try:
                self._database = self._database or self._kind.connect(self.target)
                yield self._database
            except self._failures as error:
                raise ExportError(f"{self.path} could not be written: {reason_of(error)}.") from None

    @contextmanager
    def transaction(self) -> Iterator[Database]:
        """Do the same in one transaction: all of it, or nothing."""
        with self.writing() as database, database.transaction():
            yield database

    def is_wanted(self) -> None:
        """Let the file stay, if it is a new one: something is in it now."""
        self._new = False

    def let_go(self) -> None:
        """Close it, remove a new file, and unlock."""
        database, self._database = self._database, None
        if database is not None:
            with suppress(self._failures):
                database.close()
        if self._lock.held and self._new:
            for ending in self._kind.beside:
                with suppress(OSError):
                    self.target.with_name(self.target.name + ending).unlink(missing_ok=True)
        self._lock.release()
