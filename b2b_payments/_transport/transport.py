"""A thin layer over aiohttp: sends one request, returns the whole answer, translates every failure."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus

import aiohttp
import anyio
import attrs
from yarl import URL

from b2b_payments._errors import ConfigurationError, ResponseDecodeError
from b2b_payments._mixups import MixUps
from b2b_payments._protocol.answer import Answer, kept_headers
from b2b_payments._protocol.limits import read_date
from b2b_payments._protocol.request import Request
from b2b_payments._secret import Secret
from b2b_payments._tasks import NOT_OPEN, Home
from b2b_payments._transport.connections import Exchange, no_resend
from b2b_payments._transport.failures import (
    FOREIGN,
    LONGEST_HEADER,
    MAX_HEADERS,
    ProxyRefusedError,
    Way,
    failure,
    timed_out,
    unknown_encoding,
)
from b2b_payments._version import __version__

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
# The value is not shown: it may be a credential passed in the wrong place.
_NO_URL = "base_url is not a complete URL; use one such as https://api-b2b.bigcommerce.com/api/v3/io."
_NO_PROXY = "is not the address of an http or https proxy; use one such as http://proxy.example:3128."


def checked_base_url(text: str, *, allow_http: bool) -> str:
    """Return a normalized base URL. Raises ConfigurationError if it is not valid."""
    # Checked in another frame: a traceback's local variables would show a credential in the wrong place.
    if (problem := _problem_of(text, allow_http=allow_http)) is not None:
        raise ConfigurationError(problem)
    return str(URL(text)).rstrip("/")


def _problem_of(base_url: str, *, allow_http: bool) -> str | None:
    """Return why a URL cannot be the base URL; None if it can."""
    try:
        url = URL(base_url)
        port_is_valid = url.port is not None
    except (ValueError, TypeError):
        return _NO_URL
    if url.user is not None or url.password is not None:
        return "base_url holds a user name or password; leave them out: the credential is passed separately."
    if url.scheme not in {"http", "https"} or not url.host or not port_is_valid:
        return _NO_URL
    if url.query_string or url.fragment:
        return "base_url must end with its path; remove the query and the fragment."
    if url.scheme == "http" and url.host not in _LOOPBACK and not allow_http:
        return (
            f"base_url is not https: the credential would be sent to {url.host} unencrypted. "
            "Use https, or pass allow_http=True if the network is safe."
        )
    return None


def checked_proxy(address: object, source: str = "proxy") -> Secret:
    """Return a valid proxy address, which may contain a user name and password.

    Without a scheme it is http's, as is common in environment variables. Raises ConfigurationError.
    """
    text = address if isinstance(address, str) else ""
    proxy = Secret(text if "://" in text else f"http://{text}")
    if not _is_proxy(proxy):
        del address, text, proxy
        raise ConfigurationError(f"{source} {_NO_PROXY}")
    return proxy


def _is_proxy(address: str) -> bool:
    try:
        url = URL(address)
        return url.scheme in {"http", "https"} and bool(url.host) and url.port is not None
    except ValueError:
        return False


def proxy_from_environment(base_url: str) -> Secret | None:
    """Return the proxy from HTTPS_PROXY (HTTP_PROXY for http) for this URL, None if there is none.

    Hosts in NO_PROXY, and always this machine itself, are reached directly. Raises ConfigurationError if the
    variable is not the address of an http or https proxy.
    """
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415 - slow to import, and rarely needed

    url = URL(base_url)
    proxy = getproxies().get(url.scheme)
    if not proxy or url.host in _LOOPBACK or proxy_bypass(f"{url.host}:{url.port}"):
        return None
    return checked_proxy(proxy, f"The proxy of the environment ({url.scheme.upper()}_PROXY)")


def host_of(address: str) -> str:
    """Return only the host of a valid address, and its port if that is not the default one."""
    url = URL(address)
    host = url.host or ""
    return host if url.is_default_port() else f"{host}:{url.port}"


MAX_BODY = 32 * 1024 * 1024
"""The most bytes of a decompressed body: reading a larger one is stopped."""

_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
# What aiohttp decompresses or rejects. It requests only those whose libraries are installed.
_READABLE = frozenset({"", "identity", "gzip", "deflate", "br", "zstd"})


class Transport:
    """Sends requests to one base URL, with its own aiohttp session or with the caller's.

    `proxy` is a proxy's address; without it, `trust_env` takes the environment's. `store` is the addressed
    store, as its payments name it, empty if unknown.
    """

    def __init__(
        self,
        base_url: str,
        *,
        session: aiohttp.ClientSession | None = None,
        connections: int = 100,
        allow_http: bool = False,
        max_body: int = MAX_BODY,
        proxy: str | None = None,
        trust_env: bool = False,
        store: str = "",
    ) -> None:
        self.base_url: str = checked_base_url(base_url, allow_http=allow_http)
        self.mixups: MixUps = MixUps(store)
        if session is not None and not isinstance(session, aiohttp.ClientSession):
            raise ConfigurationError(
                f"session is {type(session).__name__}; pass an open aiohttp.ClientSession, or none."
            )
        self._connections = connections
        self._max_body = max_body
        self._lent = session
        self._session: aiohttp.ClientSession | None = None
        self._home: Home | None = None
        self._middlewares: tuple[aiohttp.ClientMiddlewareType, ...] = ()
        self._trust_env = trust_env
        self._proxy = None if proxy is None else checked_proxy(proxy)
        self._way = Way(self.base_url, URL(self.base_url).host or "")
        self._dated: tuple[str, float] | None = None

    async def open(self) -> None:
        """Open the session.

        Raises ConfigurationError if the caller's session is closed or belongs to another event loop, or if
        the environment's proxy is not valid.
        """
        self._home = Home.here()
        if self._proxy is None and self._trust_env:
            # Not with aiohttp's trust_env, which would also send credentials that it finds in .netrc.
            self._proxy = proxy_from_environment(self.base_url)
        if self._proxy is not None:
            self._way = attrs.evolve(self._way, proxy=host_of(self._proxy))
        if self._lent is not None:
            if self._lent.closed:
                raise ConfigurationError(
                    "The given session is closed; pass an open aiohttp.ClientSession, or none."
                )
            if getattr(self._lent, "_loop", self._home.loop) is not self._home.loop:
                raise ConfigurationError(
                    "The given session belongs to another event loop; create it in the loop that uses it."
                )
            self._session = self._lent
            # A request's middlewares replace the session's, so the session's are passed along inside ours.
            self._middlewares = getattr(self._lent, "_middlewares", ())
        else:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=_NO_TIMEOUT,
            )

    async def aclose(self) -> None:
        """Close the session, unless it is the caller's."""
        session, self._session = self._session, None
        if session is not None and session is not self._lent:
            await session.close()

    def clock_lead(self) -> float | None:
        """Return by how many seconds the service's clock is ahead of ours; None if no answer has shown it."""
        text, at = self._dated or ("", 0.0)
        date = read_date(text)
        return None if date is None else date.timestamp() - at

    def require_open(self) -> aiohttp.ClientSession:
        """Return the session.

        Raises ConfigurationError if the client or its session is not open, or was opened in another event
        loop, thread or process.
        """
        if self._session is None or self._home is None:
            raise ConfigurationError(NOT_OPEN)
        self._home.require()
        if self._session.closed:
            raise ConfigurationError(
                "The session passed to the client has been closed; close it after the client."
            )
        return self._session

    async def send(
        self,
        request: Request,
        credential: Mapping[str, str],
        *,
        timeout: float,
        on_send: Callable[[], object] | None = None,
    ) -> Answer:
        """Send a request once, and return the whole answer whatever its status.

        `timeout` is in seconds and covers everything, including the wait for a connection and the body.
        `on_send` is called just before the request is sent, for callers that may be cancelled.
        Raises TransportError and RequestTimeoutError (with `sent` False if the service certainly never saw
        the request), and ResponseDecodeError if the body is too large or cannot be decompressed.
        """
        session = self.require_open()
        exchange = Exchange(request, self.mixups, on_send)
        try:
            with anyio.fail_after(timeout):
                return await self._exchange(session, request, credential, exchange)
        except TimeoutError:
            error: Exception | None = None
        except FOREIGN as foreign:
            error = foreign
        what, sent = f"{request.method} {request.path}", exchange.sent
        # Raised outside `except`: aiohttp's error, which holds the request's headers, must not be chained.
        if error is None:
            raise timed_out(what, self._way, timeout, sent=sent is not False)
        raise failure(what, error, self._way, sent=sent)

    async def _exchange(
        self,
        session: aiohttp.ClientSession,
        request: Request,
        credential: Mapping[str, str],
        exchange: Exchange,
    ) -> Answer:
        url = URL(self.base_url + request.path)
        async with session.request(
            request.method,
            url.with_query(request.query) if request.query else url,
            data=request.body,
            headers=_headers(credential),
            proxy=self._proxy,
            # Following a redirect would send the credential to another host.
            allow_redirects=False,
            timeout=_NO_TIMEOUT,
            middlewares=(no_resend, *self._middlewares, exchange.choose),
            # A caller's session may have other defaults.
            raise_for_status=False,
            auto_decompress=True,
            max_line_size=LONGEST_HEADER,
            max_field_size=LONGEST_HEADER,
            max_headers=MAX_HEADERS,
        ) as response:
            if response.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
                raise ProxyRefusedError(response.status)
            if "Content-Encoding" in response.headers and not _is_readable(response):
                raise unknown_encoding(f"{request.method} {request.path}")
            body = await self._read(request, response)
            secrets = [value for value in credential.values() if isinstance(value, Secret)]
            headers = kept_headers(response.headers, secrets, every=request.every_header)
            if response.ok and "Date" in headers:  # an error may be a gateway's, with another clock
                self._dated = headers["Date"], time.time()
            return Answer(
                response.status, headers, body, secrets, reused=exchange.reused, hang_up=exchange.hang_up
            )

    async def _read(self, request: Request, response: aiohttp.ClientResponse) -> bytes:
        length = response.content_length
        if length is not None and length > self._max_body:
            response.close()
            raise self._too_large(request)
        body = io.BytesIO()  # grows in place, and returns its value without a copy
        # Counted decompressed: a small body may decompress to a very large one.
        async for chunk in response.content.iter_any():
            if body.tell() + len(chunk) > self._max_body:
                response.close()
                raise self._too_large(request)
            body.write(chunk)
        return body.getvalue()

    def _too_large(self, request: Request) -> ResponseDecodeError:
        return ResponseDecodeError(
            f"{request.method} {request.path}: the answer is larger than {self._max_body} bytes; "
            "reading stopped.",
            paths=["$"],
            too_large=True,
        )


def _is_readable(response: aiohttp.ClientResponse) -> bool:
    return response.headers["Content-Encoding"].strip().lower() in _READABLE


def _headers(credential: Mapping[str, str]) -> dict[str, str]:
    return {
        "Accept": "application/json",
        # Without a body too: a request without this header may be answered 415 [doc].
        "Content-Type": "application/json",
        "User-Agent": f"b2b-payments/{__version__}",
        **credential,
    }
