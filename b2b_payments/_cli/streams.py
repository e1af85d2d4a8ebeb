"""The standard streams of a command: closed, full or a terminal, and safe for whatever the service sends."""

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
    """Standard output is closed, or could not be written."""


class _Printable(io.TextIOWrapper):
    """A standard stream on which control characters are visible, but for line breaks and tabs.

    `bare` is the stream itself, for what is to steer the terminal. What cannot be written is an OutputError,
    or, where nothing hangs on it (`lossy`), nothing.
    """

    def __init__(self, bare: TextIO, *, lossy: bool) -> None:
        encoding = "utf-8" if codecs.lookup(bare.encoding).name == "ascii" else bare.encoding
        super().__init__(bare.buffer, encoding, errors="backslashreplace", write_through=True)
        self.bare = bare
        self._lossy = lossy

    def write(self, text: str) -> int:
        """Write text, made visible."""
        with self._failing():
            super().write(printable_lines(text))
        return len(text)

    def flush(self) -> None:
        """Pass on what was written."""
        with self._failing():
            super().flush()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._lossy:
                raise output_error(error) from None


class _Terminal:
    """Standard output for JSON lines, where it is a terminal."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, lines: bytes) -> None:
        """Write whole lines, with control characters as JSON's escapes."""
        self._stream.write(printable_json(lines))

    def flush(self) -> None:
        """Pass on what was written."""
        self._stream.flush()


@contextmanager
def standard_streams() -> Iterator[None]:
    """Make the standard streams fit for a command as long as it runs.

    One that is closed is not taken by the next file that is opened. Standard output then is None, the others
    are empty. Raises SystemExit where standard output fails.
    """
    _fill_descriptors()
    before = sys.stdin, sys.stdout, sys.stderr
    with open(os.devnull) as nothing, open(os.devnull, "w") as nowhere:
        sys.stdin = before[0] or nothing
        sys.stdout = _wrapped(before[1], lossy=False)
        sys.stderr = _wrapped(before[2] or nowhere, lossy=True)
        wrapped = sys.stdout, sys.stderr
        try:
            yield
        except OutputError as failure:
            sys.stderr.write(f"Error: {failure}\n")
            raise SystemExit(failure.exit_code) from None
        finally:
            for stream in wrapped:
                _end(stream)
            sys.stdin, sys.stdout, sys.stderr = before


def _fill_descriptors() -> None:
    """Take the descriptors 0 to 2 that are free: a file or socket would get them, and what others print."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _wrapped(stream: Any, *, lossy: bool) -> Any:
    return _Printable(stream, lossy=lossy) if hasattr(stream, "buffer") else stream


def _end(stream: Any) -> None:
    """Let go of a stream. What could not be written must not be tried again when the interpreter ends."""
    if not isinstance(stream, _Printable):
        return
    try:
        stream.bare.flush()
        stream.buffer.flush()
    except OSError:
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.bare.fileno())
            os.close(nowhere)
            stream.buffer.flush()
    stream.detach()


def require_output() -> None:
    """Raise OutputError where there is no standard output: before anything is sent that is to be printed."""
    if sys.stdout is None:
        raise OutputError("Standard output is closed, and the result would go there; send it to a file.")


def output() -> Any:
    """Return standard output, for JSON lines as bytes. Raises OutputError where it is closed."""
    require_output()
    return _Terminal(sys.stdout.buffer) if sys.stdout.isatty() else sys.stdout.buffer


def bare(stream: TextIO) -> TextIO:
    """Return a standard stream as it is, for what is to steer the terminal."""
    return stream.bare if isinstance(stream, _Printable) else stream


def output_error(error: OSError) -> OSError | OutputError:
    """Return what to raise where standard output could not be written."""
    if error.errno == errno.EPIPE:
        return error  # the reader has seen enough; click ends the program quietly
    return OutputError(f"Standard output could not be written: {error.strerror}.")
