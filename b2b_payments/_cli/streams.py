"""The standard streams of a command, which may be closed, full or a terminal, made safe for any text."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from b2b_payments._cli.command import CommandError
from b2b_payments._printable import printable_json, printable_lines


class OutputError(CommandError):
    """Standard output is closed or cannot be written."""


class _Printable(io.TextIOWrapper):
    """A standard stream that escapes control characters, except for line breaks and tabs.

    `bare` is the unwrapped stream, for terminal control sequences. A failed write raises OutputError, or is
    ignored if the stream is `lossy`.
    """

    def __init__(self, bare: TextIO, *, lossy: bool) -> None:
        encoding = "utf-8" if codecs.lookup(bare.encoding).name == "ascii" else bare.encoding
        if isinstance(bare, io.TextIOWrapper):
            bare.reconfigure(encoding=encoding, errors="backslashreplace")
        super().__init__(bare.buffer, encoding, errors="backslashreplace", write_through=True)
        self.bare = bare
        self._lossy = lossy

    def write(self, text: str) -> int:
        with self._write_errors():
            super().write(printable_lines(text))
        return len(text)

    def flush(self) -> None:
        with self._write_errors():
            super().flush()

    @contextmanager
    def _write_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._lossy:
                raise output_error(error) from None


class _Terminal:
    """Standard output for JSON lines when it is a terminal."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, lines: bytes) -> None:
        self._stream.write(printable_json(lines))

    def flush(self) -> None:
        self._stream.flush()


@contextmanager
def standard_streams() -> Iterator[None]:
    """Wrap the standard streams while a command runs, and deal with closed ones.

    A closed standard output is None, a closed standard input is empty, and a closed standard error discards
    what is written. Raises SystemExit if standard output fails.
    """
    _fill_descriptors()
    before = sys.stdin, sys.stdout, sys.stderr
    with open(os.devnull) as empty, open(os.devnull, "w") as discard:
        sys.stdin = before[0] or empty
        sys.stdout = _wrapped(before[1], lossy=False)
        sys.stderr = _wrapped(before[2] or discard, lossy=True)
        wrapped = sys.stdout, sys.stderr
        try:
            yield
        except OutputError as failure:
            sys.stderr.write(f"Error: {failure}\n")
            raise SystemExit(failure.exit_code) from None
        finally:
            for stream in wrapped:
                _detach(stream)
            sys.stdin, sys.stdout, sys.stderr = before


def _fill_descriptors() -> None:
    """Open /dev/null on free descriptors 0 to 2: a file or socket that got one would receive printed text."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _wrapped(stream: Any, *, lossy: bool) -> Any:
    return _Printable(stream, lossy=lossy) if hasattr(stream, "buffer") else stream


def _detach(stream: Any) -> None:
    """Flush and unwrap a stream. Unwritable text is dropped, or the interpreter would retry it at exit."""
    if not isinstance(stream, _Printable):
        return
    try:
        stream.bare.flush()
        stream.buffer.flush()
    except OSError:
        with suppress(OSError):
            discard = os.open(os.devnull, os.O_WRONLY)
            os.dup2(discard, stream.bare.fileno())
            os.close(discard)
            stream.buffer.flush()
    stream.detach()


def require_output() -> None:
    """Raise OutputError if standard output is closed. Called before anything is sent."""
    if sys.stdout is None:
        raise OutputError("Standard output is closed, so the result cannot be printed: send it to a file.")


def output() -> Any:
    """Return standard output for JSON lines, as bytes. Raises OutputError if it is closed."""
    require_output()
    return _Terminal(sys.stdout.buffer) if sys.stdout.isatty() else sys.stdout.buffer


def bare(stream: TextIO) -> TextIO:
    """Return the unwrapped stream, for terminal control sequences."""
    return stream.bare if isinstance(stream, _Printable) else stream


def output_error(error: OSError) -> OSError | OutputError:
    """Return the error to raise after a failed write to standard output."""
    if error.errno == errno.EPIPE:
        return error  # the reader has closed the pipe; the program ends quietly
    return OutputError(f"Standard output could not be written: {error.strerror}.")
