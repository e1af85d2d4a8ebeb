"""An S3 server on loopback (moto, in its own process), and a proxy in front of it that fails on demand."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from enum import Enum, auto
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from secrets import token_hex
from typing import Self

_SERVE = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
SECRET = "marked-secret"


class S3Server:
    """A server that stores everything in memory, and ends with this process."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.port: int = int(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the server."""
        self._process.kill()
        self._process.communicate()

    def new_bucket(self) -> str:
        """Create a bucket. Returns its name."""
        name = f"bucket-{token_hex(6)}"
        connection = HTTPConnection("127.0.0.1", self.port)
        connection.request("PUT", f"/{name}", headers={"Content-Length": "0"})
        assert connection.getresponse().status == 200
        connection.close()
        return name


def variables(port: int) -> Mapping[str, str]:
    """Return the variables for an S3 server on a port of this machine."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "marked-key",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }


class Fate(Enum):
    """What the proxy does with a request."""

    PASSED = auto()
    CUT = auto()
    ANSWER_LOST = auto()


class S3Proxy:
    """Forwards requests to an S3 server, without the headers in `leave_out`.

    `decide` is asked what becomes of each, by its method and path: a number is the status of a refusal.
    `asked` holds those that came.
    """

    def __init__(self, port: int, leave_out: str = "") -> None:
        self.decide: Callable[[str, str], Fate | int] = lambda _method, _path: Fate.PASSED
        self.asked: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65_537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                proxy.asked.append(f"{self.command} {self.path}")
                fate = proxy.decide(self.command, self.path)
                if isinstance(fate, int):
                    self.wfile.write(f"HTTP/1.1 {fate} No\r\nContent-Length: 0\r\n\r\n".encode())
                    return
                if fate is not Fate.CUT:
                    status, headers, answer = self._there(body)
                if fate is not Fate.PASSED:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                head = "".join(f"{name}: {value}\r\n" for name, value in headers)
                self.wfile.write(f"HTTP/1.1 {status} .\r\n{head}\r\n".encode() + answer)

            def _there(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
                there = HTTPConnection("127.0.0.1", port)
                given = {name: value for name, value in self.headers.items() if name.lower() != leave_out}
                there.request(self.command, self.path, body, given)
                found = there.getresponse()
                answer = found.read()
                there.close()
                left = {"transfer-encoding", "connection", "content-length"}
                headers = [item for item in found.getheaders() if item[0].lower() not in left]
                length = found.getheader("content-length") if self.command == "HEAD" else str(len(answer))
                return found.status, [*headers, ("content-length", length or "0")], answer

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
