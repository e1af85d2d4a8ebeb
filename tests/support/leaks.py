"""Searches everything that the library emits for a planted credential."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Self

import attrs

from b2b_payments.events import Event


class Emitted:
    """Collects log records while it is entered, and what is added by hand."""

    def __init__(self) -> None:
        self._texts: list[tuple[str, str]] = []
        self._handler = _Keeper(self)
        self._level = logging.root.level

    def __enter__(self) -> Self:
        logging.root.addHandler(self._handler)
        logging.root.setLevel(logging.NOTSET)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.root.removeHandler(self._handler)
        logging.root.setLevel(self._level)

    def add(self, where: str, text: str) -> None:
        """Add a text."""
        self._texts.append((where, text))

    def listen(self, event: Event) -> None:
        """Add an event."""
        self.add("event", f"{event} {attrs.asdict(event)}")

    def error(self, error: BaseException) -> None:
        """Add an error, its chain, and the local variables of this library's frames in their tracebacks."""
        for one in _chain(error):
            self.add("error", f"{one} {one!r} {one.args!r} {[str(arg) for arg in one.args]} {vars(one)!r}")
            self.add("pickled error", pickle.dumps(one).decode("latin-1"))
            for frame, line in traceback.walk_tb(one.__traceback__):
                if _is_ours(frame):
                    variables = {name: _shown(value) for name, value in frame.f_locals.items()}
                    self.add("traceback", f"{frame.f_code.co_filename}:{line} {variables}")

    def found(self, *marks: str) -> list[tuple[str, str]]:
        """Return the places and texts that contain any of these credentials."""
        return [(where, text) for where, text in self._texts if any(mark in text for mark in marks)]

    def count(self, where: str) -> int:
        """Return the number of texts collected from `where`."""
        return sum(kind == where for kind, _ in self._texts)


class _Keeper(logging.Handler):
    """Collects whole log records."""

    def __init__(self, emitted: Emitted) -> None:
        super().__init__(logging.NOTSET)
        self._emitted = emitted

    def emit(self, record: logging.LogRecord) -> None:
        self._emitted.add("log record", f"{record.getMessage()} {vars(record)!r}")
        if record.exc_info and record.exc_info[1] is not None:
            self._emitted.error(record.exc_info[1])


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    todo = [error]
    while todo:
        one = todo.pop()
        if any(one is other for other in seen):
            continue
        seen.append(one)
        yield one
        inside = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        todo += [linked for linked in (one.__cause__, one.__context__, *inside) if linked is not None]


def _shown(value: object) -> str:
    try:
        return repr(value)
    except AttributeError:
        return "an object that is being made"


def _is_ours(frame: FrameType) -> bool:
    # The methods that attrs generates have no module of their own, but a file name that shows it.
    module = str(frame.f_globals.get("__name__", ""))
    file = frame.f_code.co_filename
    generated = file.startswith("<attrs generated") and " b2b_payments." in file
    return module.partition(".")[0] == "b2b_payments" or generated
