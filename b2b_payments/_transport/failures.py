"""What aiohttp raises, as errors of ours: what is the matter, and whether the request may have arrived.

Without aiohttp's own texts, which can hold headers, and with them the credential.
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
"""Bytes of one header; some gateways send long policies, and aiohttp's own bound is 8,190."""
MOST_HEADERS = 500


class ProxyRefusedError(Exception):
    """A proxy answered in the service's place, with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


# All that aiohttp can raise, by its own list of names.
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


_Kinds = type[BaseException] | tuple[type[BaseException], ...]
_NOT_UNPACKED = "the answer cannot be unpacked: its Content-Encoding was not asked for, or is not kept to."
_LONG_HEADER = (
    f"a header of the answer is longer than {LONGEST_HEADER:,} bytes; see what the service, or a gateway "
    "before it, puts there."
)
_BROKE = "the connection to {end} broke before the whole answer came ({name})."

# The first row whose kind is found in an error's chain says what is the matter.
_NOT_SENT: tuple[tuple[_Kinds, str], ...] = (
    ((aiohttp.ClientHttpProxyError, ProxyRefusedError), "{refusal}."),
    (aiohttp.ClientProxyConnectionError, "no connection to the proxy {asked}: {reason}."),
    (aiohttp.ServerFingerprintMismatch, "{host} has another certificate than the session given expects."),
    (aiohttp.ClientSSLError, "no secure connection to {host}: {reason}."),
    (aiohttp.ClientConnectorDNSError, "the host {asked} was not found; check {checked} and the network."),
    (aiohttp.ClientConnectorError, "no connection to {asked}: {reason}."),
    (aiohttp.ConnectionTimeoutError, "no connection to {end} in time."),
    (SpeaksFirstError, "{host} sent something before it was asked; check base_url and its port."),
)
_SENT: tuple[tuple[_Kinds, str], ...] = (
    (http_exceptions.ContentEncodingError, _NOT_UNPACKED),
    ((http_exceptions.ContentLengthError, http_exceptions.TransferEncodingError), _BROKE),
    (http_exceptions.LineTooLong, _LONG_HEADER),
    (http_exceptions.BadStatusLine, "the answer is not HTTP; check base_url: http or https, and its port."),
    (http_exceptions.HttpProcessingError, "{broken}, and cannot be read."),
)


@frozen
class Way:
    """Where requests go: the service's host, and the proxy's where there is one. Nothing secret."""

    base_url: str
    host: str
    proxy: str | None = None

    @property
    def end(self) -> str:
        """The service's host, by way of the proxy."""
        return self.host if self.proxy is None else f"{self.host} by way of the proxy {self.proxy}"


def timed_out(what: str, way: Way, timeout: float, *, sent: bool) -> RequestTimeoutError:
    """Return the error for a request that took too long: for its answer, or for a connection."""
    if sent:
        return RequestTimeoutError(f"{what}: no complete answer within {timeout:g} s.")
    return RequestTimeoutError(
        f"{what}: not sent, since no connection to {way.end} was free, or could be made, within "
        f"{timeout:g} s; make fewer calls at once, or give them a longer timeout.",
        sent=False,
    )


def failure(what: str, error: Exception, way: Way, *, sent: bool | None) -> B2BPaymentsError:
    """Return the error for whatever aiohttp raised.

    `sent` says whether anything of the request had left, None where that was not seen: then the error tells.

    What was sent may have been carried out, whatever failed before that: a middleware may have tried twice.
    Only a proxy's 407 says that the request went no further.
    """
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return ConfigurationError(f"base_url {way.base_url!r} is not a URL that can be asked.")
    chain = list(_chain(error))
    unsent = sent is not True or isinstance(error, ProxyRefusedError)
    if unsent and (found := _first(chain, _NOT_SENT)) is not None:
        return TransportError(_sentence(what, *found, way), sent=False, lasting=_lasts(found[0]))
    matter, sentence = _first(chain, _SENT) or (error, _BROKE)
    message = _sentence(what, matter, sentence, way)
    if isinstance(matter, http_exceptions.ContentEncodingError):
        return ResponseDecodeError(message, paths=["$"])
    return TransportError(message, sent=sent is not False)


def unpacked_otherwise(what: str) -> ResponseDecodeError:
    """Return the error for an answer whose Content-Encoding aiohttp does not know, and leaves as it is."""
    return ResponseDecodeError(f"{what}: {_NOT_UNPACKED}", paths=["$"])


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first(
    chain: list[BaseException], table: tuple[tuple[_Kinds, str], ...]
) -> tuple[BaseException, str] | None:
    rows = ((error, sentence) for kinds, sentence in table for error in chain if isinstance(error, kinds))
    return next(rows, None)


def _sentence(what: str, error: BaseException, sentence: str, way: Way) -> str:
    many = "too many headers" in str(getattr(error, "message", "")).lower()
    details = {
        "host": way.host,
        "end": way.end,
        # Where aiohttp says which: it may be the proxy that was not found.
        "asked": getattr(error, "host", None) or way.host,
        "checked": "base_url" if way.proxy is None else "base_url, the proxy",
        "reason": _os_reason(error),
        "refusal": _refusal(getattr(error, "status", 0), way),
        "broken": f"the answer has more than {MOST_HEADERS} headers" if many else "the answer is broken HTTP",
        "name": str(error) if isinstance(error, DroppedError) else type(error).__name__,
    }
    return f"{what}: {sentence.format_map(details)}"


def _refusal(status: int, way: Way) -> str:
    proxy = "the proxy" if way.proxy is None else f"the proxy {way.proxy}"
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return (
            f"{proxy} asks for a user name and password, or refuses those given (407); "
            "write them into the proxy's URL, as in http://user:password@host:port"
        )
    return f"{proxy} refuses to connect to {way.host} ({status}); see its rules, or leave it out"


def _lasts(error: BaseException) -> bool:
    """Whether it is not the service that is down, but the address, the certificate or the proxy wrong."""
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
    # The system's own words where there are any; asyncio's only repeat the address.
    if number in errno.errorcode and not isinstance(cause, ssl.SSLError):
        return os.strerror(number)
    if why := getattr(cause, "verify_message", ""):
        return f"its certificate is not trusted ({why.rstrip('.')})"
    return getattr(cause, "strerror", None) or type(cause).__name__
