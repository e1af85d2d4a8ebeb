"""aiohttp, kept thin: one request out, one whole answer in, every failure one of ours."""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import Mapping, Sequence

import aiohttp
import anyio
from multidict import CIMultiDict
from yarl import URL

from b2b_payments._version import __version__
from b2b_payments.auth import Secret
from b2b_payments.errors import (
    B2BPaymentsError,
    ConfigurationError,
    RequestTimeoutError,
    ResponseDecodeError,
    TransportError,
)
from b2b_payments.protocol.answer import Answer
from b2b_payments.protocol.request import Request
from b2b_payments.tasks import NOT_OPEN, Home

MAX_BODY = 32 * 1024 * 1024
"""Bytes of an unpacked body; a larger one is refused while it is being read."""

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
# Not shown: what was given may be a credential in the wrong place.
_NO_URL = "base_url is not a whole URL; expected one such as https://api-b2b.bigcommerce.com/api/v3/io."
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)


class _DroppedError(Exception):
    """A drop, on its way past aiohttp's own retry."""


# All that aiohttp can raise, by its own list of names.
_FOREIGN = (
    aiohttp.ClientError,
    aiohttp.EofStream,
    aiohttp.WebSocketError,
    aiohttp.WSMessageTypeError,
    aiohttp.http.HttpProcessingError,
    OSError,
    _DroppedError,
)


async def _one_try(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending GET, PUT and DELETE again by itself when a kept connection drops.

    Such a request would go uncounted against the quota, and a DELETE that succeeded would come back 404.
    aiohttp looks for its own exceptions only, so the drop passes under another name.
    """
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _DroppedError(type(error).__name__) from None


class Transport:
    """Sends requests to one base URL, on a session of its own or on one that it was lent."""

    def __init__(
        self,
        base_url: str,
        *,
        session: aiohttp.ClientSession | None = None,
        connections: int = 100,
        allow_http: bool = False,
        max_body: int = MAX_BODY,
    ) -> None:
        self.base_url = _checked_base_url(base_url, allow_http=allow_http)
        if session is not None and not isinstance(session, aiohttp.ClientSession):
            raise ConfigurationError(
                f"session is {type(session).__name__}; give an open aiohttp.ClientSession, or none."
            )
        self._connections = connections
        self._max_body = max_body
        self._lent = session
        self._session: aiohttp.ClientSession | None = None
        self._home: Home | None = None
        self._middlewares: tuple[aiohttp.ClientMiddlewareType, ...] = (_one_try,)

    async def open(self) -> None:
        """Make the session ready.

        Raises ConfigurationError where the one lent is closed, or belongs to another event loop.
        """
        self._home = Home.here()
        if self._lent is not None:
            if self._lent.closed:
                raise ConfigurationError(
                    "The session given is closed; give an open aiohttp.ClientSession, or none."
                )
            if getattr(self._lent, "_loop", self._home.loop) is not self._home.loop:
                raise ConfigurationError(
                    "The session given belongs to another event loop; make it in the one that uses it."
                )
            self._session = self._lent
            # Middlewares given with a request take the place of the session's: hers go on inside ours.
            self._middlewares = (_one_try, *getattr(self._lent, "_middlewares", ()))
        else:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=_NO_TIMEOUT,
            )

    async def aclose(self) -> None:
        """Close the session, unless it was lent."""
        session, self._session = self._session, None
        if session is not None and session is not self._lent:
            await session.close()

    def require_open(self) -> aiohttp.ClientSession:
        """Give the session.

        Raises ConfigurationError where the client or its session is not open, and in another event loop,
        thread or process than the one that it was opened in.
        """
        if self._session is None or self._home is None:
            raise ConfigurationError(NOT_OPEN)
        self._home.require()
        if self._session.closed:
            raise ConfigurationError(
                "The session given to the client was closed meanwhile; close it after the client."
            )
        return self._session

    async def send(self, request: Request, credential: Mapping[str, str], *, timeout: float) -> Answer:
        """Send once, and give the whole answer whatever its status.

        `timeout` is in seconds and holds for everything, body included. Raises TransportError (with `sent`
        False where the service certainly never saw the request), RequestTimeoutError, and
        ResponseDecodeError for a body that is too large or cannot be unpacked.
        """
        session = self.require_open()
        try:
            with anyio.fail_after(timeout):
                return await self._exchange(session, request, credential)
        except TimeoutError:
            failure: B2BPaymentsError = RequestTimeoutError(
                f"{request.method} {request.path}: no complete answer within {timeout:g} s."
            )
        except _FOREIGN as error:
            failure = _failure(request, error, self.base_url)
        # Raised out here, so that no aiohttp error, and with it no request header, is chained to ours.
        raise failure

    async def _exchange(
        self, session: aiohttp.ClientSession, request: Request, credential: Mapping[str, str]
    ) -> Answer:
        url = URL(self.base_url + request.path)
        async with session.request(
            request.method,
            url.with_query(request.query) if request.query else url,
            data=request.body,
            headers=_headers(credential),
            # A redirect would take the credential along to another host.
            allow_redirects=False,
            timeout=_NO_TIMEOUT,
            middlewares=self._middlewares,
            # A lent session may have other ideas of both.
            raise_for_status=False,
            auto_decompress=True,
        ) as response:
            body = await self._read(request, response)
            secrets = [value for value in credential.values() if isinstance(value, Secret)]
            headers = _headers_without(secrets, response.headers)
            return Answer(response.status, headers, body, secrets)

    async def _read(self, request: Request, response: aiohttp.ClientResponse) -> bytes:
        length = response.content_length
        if length is not None and length > self._max_body:
            response.close()
            raise self._too_large(request)
        chunks: list[bytes] = []
        size = 0
        # Counted as unpacked: a small body may unpack to a very large one.
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > self._max_body:
                response.close()
                raise self._too_large(request)
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _too_large(self, request: Request) -> ResponseDecodeError:
        return ResponseDecodeError(
            f"{request.method} {request.path}: the answer is larger than {self._max_body} bytes; "
            "reading stopped.",
            paths=["$"],
        )


def _headers(credential: Mapping[str, str]) -> dict[str, str]:
    return {
        "Accept": "application/json",
        # Without a body too: a request that does not say it may be answered 415 [doc].
        "Content-Type": "application/json",
        "User-Agent": f"b2b-payments/{__version__}",
        **credential,
    }


def _headers_without(secrets: Sequence[Secret], headers: Mapping[str, str]) -> Mapping[str, str]:
    if not any(secret in value for value in headers.values() for secret in secrets):
        return headers
    blotted: CIMultiDict[str] = CIMultiDict()
    for name, value in headers.items():
        shown = value
        for secret in secrets:
            shown = shown.replace(secret, "***")
        blotted.add(name, shown)
    return blotted


def _failure(request: Request, error: Exception, base_url: str) -> B2BPaymentsError:
    """Turn whatever aiohttp raises into ours, without its text: that can hold headers."""
    what = f"{request.method} {request.path}"
    host = URL(base_url).host
    if isinstance(error, aiohttp.ClientSSLError):
        return TransportError(f"{what}: no secure connection to {host}: {_os_reason(error)}.", sent=False)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return TransportError(
            f"{what}: the host {host} was not found; check base_url and the network.", sent=False
        )
    if isinstance(error, aiohttp.ClientConnectorError):
        return TransportError(f"{what}: no connection to {host}: {_os_reason(error)}.", sent=False)
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return ConfigurationError(f"base_url {base_url!r} is not a URL that can be asked.")
    if isinstance(error, aiohttp.ClientPayloadError) and "decode" in str(error):
        return ResponseDecodeError(f"{what}: the answer cannot be unpacked.", paths=["$"])
    name = str(error) if isinstance(error, _DroppedError) else type(error).__name__
    return TransportError(f"{what}: the connection to {host} broke before the whole answer came ({name}).")


def _os_reason(error: Exception) -> str:
    cause = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    number: int = getattr(cause, "errno", None) or 0
    # The system's own words where there are any; asyncio's only repeat the address.
    if number in errno.errorcode and not isinstance(cause, ssl.SSLError):
        return os.strerror(number)
    return getattr(cause, "strerror", None) or type(cause).__name__


def _checked_base_url(text: str, *, allow_http: bool) -> str:
    # Judged elsewhere: a traceback's local variables would show a credential given in the wrong place.
    if (problem := _problem_of(text, allow_http=allow_http)) is not None:
        raise ConfigurationError(problem)
    return str(URL(text)).rstrip("/")


def _problem_of(base_url: str, *, allow_http: bool) -> str | None:
    """Say why a URL cannot be the base URL, None where it can."""
    try:
        url = URL(base_url)
        port_is_valid = url.port is not None
    except (ValueError, TypeError):
        return _NO_URL
    if url.user is not None or url.password is not None:
        return "base_url holds a user name or password; leave them out and give the credential as auth."
    if url.scheme not in {"http", "https"} or not url.host or not port_is_valid:
        return _NO_URL
    if url.query_string or url.fragment:
        return "base_url must end with its path; leave out the query and the fragment."
    if url.scheme == "http" and url.host not in _LOOPBACK and not allow_http:
        return (
            f"base_url is not https: the credential would go to {url.host} for all on the way to read. "
            "Use https, or pass allow_http=True where the network is safe."
        )
    return None
