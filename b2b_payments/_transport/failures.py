"""Translates aiohttp's exceptions into this library's: what failed, and whether the request may have arrived.

aiohttp's own texts are not quoted, since they can contain headers, and so the credential.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Iterator
from http import HTTPStatus

import aiohttp
from aiohttp import http_exceptions

from b2b_payments._errors import (
    B2BPaymentsError,
    ConfigurationError,
    RequestTimeoutError,
    ResponseDecodeError,
    TransportError,
)
from b2b_payments._printable import frozen
from b2b_payments._transport.connections import DroppedError, SpeaksFirstError

LONGEST_HEADER = 64 * 1024
"""The most bytes of one header: some gateways send long policies, and aiohttp's default is 8,190."""
MAX_HEADERS = 500


class ProxyRefusedError(Exception):
    """A proxy answered instead of the service, with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


# Everything that aiohttp raises, according to its list of exported names.
FOREIGN = (
    aiohttp.ClientError,
    aiohttp.EofStream,
    aiohttp.WebSocketError,
    aiohttp.WSMessageTypeError,
    aiohttp.http.HttpProcessingError,
    OSError,
    DroppedError,
    ProxyRefusedError,
    SpeaksFirstError,
)


_Types = type[BaseException] | tuple[type[BaseException], ...]
_NOT_DECOMPRESSED = "the answer cannot be decompressed: its Content-Encoding is unsupported or wrong."
_LONG_HEADER = (
    f"a header of the answer is longer than {LONGEST_HEADER:,} bytes; check what the service, or a gateway "
    "before it, sends there."
)
_BROKE = "the connection to {end} broke before the whole answer was received ({name})."

# The first row whose exception is in an error's chain describes the failure.
_NOT_SENT: tuple[tuple[_Types, str], ...] = (
    ((aiohttp.ClientHttpProxyError, ProxyRefusedError), "{refusal}."),
    (aiohttp.ClientProxyConnectionError, "no connection to the proxy {address}: {reason}."),
    (aiohttp.ServerFingerprintMismatch, "{host} has a different certificate than the given session expects."),
    (aiohttp.ClientSSLError, "no secure connection to {host}: {reason}."),
    (aiohttp.ClientConnectorDNSError, "the host {address} was not found; check {settings} and the network."),
    (aiohttp.ClientConnectorError, "no connection to {address}: {reason}."),
    (aiohttp.ConnectionTimeoutError, "no connection to {end} in time."),
    (SpeaksFirstError, "{host} sent data before any request; check base_url and its port."),
)
_SENT: tuple[tuple[_Types, str], ...] = (
    (http_exceptions.ContentEncodingError, _NOT_DECOMPRESSED),
    ((http_exceptions.ContentLengthError, http_exceptions.TransferEncodingError), _BROKE),
    (http_exceptions.LineTooLong, _LONG_HEADER),
    (http_exceptions.BadStatusLine, "the answer is not HTTP; check base_url: http or https, and its port."),
    (http_exceptions.HttpProcessingError, "{broken} and cannot be read."),
)


@frozen
class Way:
    """The route of the requests: the service's host, and the proxy's if one is used. Contains no secrets."""

    base_url: str
    host: str
    proxy: str | None = None

    @property
    def end(self) -> str:
        """The service's host, and the proxy if one is used, for messages."""
        return self.host if self.proxy is None else f"{self.host} through the proxy {self.proxy}"


def timed_out(what: str, way: Way, timeout: float, *, sent: bool) -> RequestTimeoutError:
    """Return the error for a request that timed out waiting for its answer, or for a connection."""
    if sent:
        return RequestTimeoutError(f"{what}: no complete answer within {timeout:g} s.")
    return RequestTimeoutError(
        f"{what}: not sent, since no connection to {way.end} became free or could be opened within "
        f"{timeout:g} s; make fewer calls at once, or use a longer timeout.",
        sent=False,
    )


def failure(what: str, error: Exception, way: Way, *, sent: bool | None) -> B2BPaymentsError:
    """Return the error for an exception that aiohttp raised.

    `sent` says whether any of the request was sent, None if that is unknown: then the exception decides.

    A request that was sent may have been carried out even if the exception says that it failed to connect,
    since a middleware may have tried twice. Only a proxy's 407 shows that it went no further.
    """
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return ConfigurationError(f"base_url {way.base_url!r} is not a valid URL.")
    chain = list(_chain(error))
    unsent = sent is not True or isinstance(error, ProxyRefusedError)
    if unsent and (match := _first(chain, _NOT_SENT)) is not None:
        return TransportError(_sentence(what, *match, way), sent=False, lasting=_is_lasting(match[0]))
    cause, sentence = _first(chain, _SENT) or (error, _BROKE)
    message = _sentence(what, cause, sentence, way)
    if isinstance(cause, http_exceptions.ContentEncodingError):
        return ResponseDecodeError(message, paths=["$"])
    return TransportError(message, sent=sent is not False)


def unknown_encoding(what: str) -> ResponseDecodeError:
    """Return the error for an answer whose Content-Encoding aiohttp does not know, and does not decode."""
    return ResponseDecodeError(f"{what}: {_NOT_DECOMPRESSED}", paths=["$"])


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first(
    chain: list[BaseException], table: tuple[tuple[_Types, str], ...]
) -> tuple[BaseException, str] | None:
    rows = ((error, sentence) for kinds, sentence in table for error in chain if isinstance(error, kinds))
    return next(rows, None)


def _sentence(what: str, error: BaseException, sentence: str, way: Way) -> str:
    many = "too many headers" in str(getattr(error, "message", "")).lower()
    details = {
        "host": way.host,
        "end": way.end,
        # The host that aiohttp names, if any: it may be the proxy that was not found.
        "address": getattr(error, "host", None) or way.host,
        "settings": "base_url" if way.proxy is None else "base_url, the proxy",
        "reason": _os_reason(error),
        "refusal": _refusal(getattr(error, "status", 0), way),
        "broken": f"the answer has more than {MAX_HEADERS} headers" if many else "the answer is broken HTTP",
        "name": str(error) if isinstance(error, DroppedError) else type(error).__name__,
    }
    return f"{what}: {sentence.format_map(details)}"


def _refusal(status: int, way: Way) -> str:
    proxy = "the proxy" if way.proxy is None else f"the proxy {way.proxy}"
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return (
            f"{proxy} requires a user name and password, or rejects the given ones (407); "
            "put them into the proxy's URL, as in http://user:password@host:port"
        )
    return f"{proxy} refuses to connect to {way.host} ({status}); check its rules, or connect without it"


def _is_lasting(error: BaseException) -> bool:
    """Whether retrying cannot help: the address, the certificate or the proxy is wrong."""
    cause = _cause(error)
    return (
        isinstance(error, aiohttp.ServerFingerprintMismatch | SpeaksFirstError)
        or isinstance(cause, ssl.SSLCertVerificationError)
        or (isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME)
        or getattr(error, "status", 0) == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED
    )


def _cause(error: BaseException) -> BaseException:
    return getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error


def _os_reason(error: BaseException) -> str:
    cause = _cause(error)
    number: int = getattr(cause, "errno", None) or 0
    # The operating system's text if there is one; asyncio's only repeats the address.
    if number in errno.errorcode and not isinstance(cause, ssl.SSLError):
        return os.strerror(number)
    if reason := getattr(cause, "verify_message", ""):
        return f"its certificate is not trusted ({reason.rstrip('.')})"
    return getattr(cause, "strerror", None) or type(cause).__name__
