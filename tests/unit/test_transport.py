"""The transport without a socket: translation of every failure, and validation of base URLs."""

from __future__ import annotations

import socket
import ssl
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aioresponses import aioresponses
from multidict import CIMultiDict
from yarl import URL

from b2b_payments import (
    AuthenticationError,
    B2BPaymentsError,
    ConfigurationError,
    RequestTimeoutError,
    ResponseDecodeError,
    TransportError,
)
from b2b_payments._auth import StoreAuth
from b2b_payments._protocol.answer import read_envelope
from b2b_payments._protocol.request import get_payment
from b2b_payments._transport import Transport

BASE = "https://api.example/api/v3/io"
SECRET = "planted-credential"
HEADERS = StoreAuth("abc123", SECRET).headers(StoreAuth("abc123", SECRET).token)  # type: ignore[arg-type]

REFUSED = OSError(111, "Connection refused")
KEY: Any = SimpleNamespace(host="api.example", port=443, ssl=True, is_ssl=True)
INFO: Any = SimpleNamespace(
    url=URL(BASE), method="GET", headers=CIMultiDict({"X-Auth-Token": SECRET}), real_url=URL(BASE)
)


def public_exceptions() -> list[type[Exception]]:
    """Return every exception class among aiohttp's public names."""
    named = [getattr(aiohttp, name) for name in aiohttp.__all__]
    return [
        one
        for one in named
        if isinstance(one, type) and issubclass(one, Exception) and not issubclass(one, Warning)
    ]


def example(kind: type[Exception]) -> Exception:
    """Create an exception of this class as aiohttp would, with a credential wherever one fits."""
    make: Any = kind
    if issubclass(kind, aiohttp.ClientConnectorCertificateError):
        return make(KEY, ssl.SSLCertVerificationError("certificate has expired"))  # type: ignore[no-any-return]
    if issubclass(kind, aiohttp.ClientConnectorError):
        return make(KEY, REFUSED)  # type: ignore[no-any-return]
    if issubclass(kind, aiohttp.ClientResponseError):
        return make(INFO, (), headers=INFO.headers, message=SECRET)  # type: ignore[no-any-return]
    if issubclass(kind, aiohttp.ServerFingerprintMismatch):
        return make(b"1", b"2", "api.example", 443)  # type: ignore[no-any-return]
    if issubclass(kind, aiohttp.WebSocketError):
        return make(1002, SECRET)  # type: ignore[no-any-return]
    return make(SECRET)  # type: ignore[no-any-return]


async def failure_of(played: aioresponses, error: Exception) -> B2BPaymentsError:
    """Return the error that the transport raises if aiohttp raises this one."""
    played.get(f"{BASE}/ip/payments/70", exception=error)
    transport = Transport(BASE)
    await transport.open()
    try:
        with pytest.raises(B2BPaymentsError) as caught:
            await transport.send(get_payment(70), HEADERS, timeout=5.0)
    finally:
        await transport.aclose()
    return caught.value


@pytest.mark.parametrize("kind", public_exceptions(), ids=lambda kind: kind.__name__)
async def test_every_aiohttp_error_is_translated(played: aioresponses, kind: type[Exception]) -> None:
    """Every public aiohttp exception is translated into a sentence, unchained and without credential."""
    ours = await failure_of(played, example(kind))
    assert type(ours).__module__ == "b2b_payments"
    assert ours.__cause__ is None
    assert ours.__context__ is None
    assert SECRET not in f"{ours} {ours!r} {vars(ours)}"
    assert str(ours).endswith(".")


@pytest.mark.parametrize(
    "error",
    [
        REFUSED,
        ssl.SSLError(1, SECRET),
        ConnectionResetError(104, "reset"),
        aiohttp.http.HttpProcessingError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_ambiguous_error_may_have_been_sent(played: aioresponses, error: Exception) -> None:
    """An error that is not certainly about connecting leaves open whether the request arrived."""
    ours = await failure_of(played, error)
    assert type(ours) is TransportError
    assert ours.sent


@pytest.mark.parametrize(
    ("error", "lasting"),
    [
        (aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(socket.EAI_NONAME, "unknown")), True),
        (aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(socket.EAI_AGAIN, "no network")), False),
        (aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError("expired")), True),
        (aiohttp.ServerFingerprintMismatch(b"1", b"2", "api.example", 443), True),
        (aiohttp.ClientHttpProxyError(INFO, (), status=407), True),
        (aiohttp.ClientHttpProxyError(INFO, (), status=502), False),
        (aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "handshake failure")), False),
        (aiohttp.ClientConnectorError(KEY, REFUSED), False),
    ],
)
async def test_lasting_errors(played: aioresponses, error: Exception, lasting: bool) -> None:
    """An unknown host, wrong certificate or wrong proxy is lasting; an unreachable network is not."""
    ours = await failure_of(played, error)
    assert isinstance(ours, TransportError)
    assert (ours.sent, ours.lasting) == (False, lasting)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (aiohttp.ClientConnectorError(KEY, REFUSED), "no connection to api.example: Connection refused."),
        (
            aiohttp.ClientConnectorDNSError(KEY, OSError(-2, "unknown")),
            "the host api.example was not found; check base_url and the network.",
        ),
        (
            aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "handshake failure")),
            "no secure connection to api.example: handshake failure.",
        ),
        (
            aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError("expired")),
            "no secure connection to api.example: SSLCertVerificationError.",
        ),
    ],
)
async def test_connection_failures_were_not_sent(played: aioresponses, error: Exception, says: str) -> None:
    """A failure to connect says why, and that nothing was sent."""
    ours = await failure_of(played, error)
    assert isinstance(ours, TransportError)
    assert not ours.sent
    assert ours.message == f"GET /ip/payments/70: {says}"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (aiohttp.ServerTimeoutError("slow"), RequestTimeoutError),
        (TimeoutError(), RequestTimeoutError),
        (aiohttp.InvalidURL("x"), ConfigurationError),
        (aiohttp.NonHttpUrlClientError("x"), ConfigurationError),
        (aiohttp.http_exceptions.ContentEncodingError("Can not decode"), ResponseDecodeError),
        (aiohttp.ClientPayloadError("Response payload is not completed"), TransportError),
        (aiohttp.ServerDisconnectedError(), TransportError),
    ],
)
async def test_failures_keep_their_class(
    played: aioresponses, error: Exception, kind: type[Exception]
) -> None:
    """Timeouts, invalid URLs, unreadable bodies and drops each have their own error class."""
    assert type(await failure_of(played, error)) is kind


async def test_unknown_errors_are_not_translated(played: aioresponses) -> None:
    """An exception that is not aiohttp's, such as a middleware's own, is passed on."""
    played.get(f"{BASE}/ip/payments/70", exception=ZeroDivisionError("the caller's own"))
    transport = Transport(BASE)
    await transport.open()
    try:
        with pytest.raises(ZeroDivisionError, match="the caller's own"):
            await transport.send(get_payment(70), HEADERS, timeout=5.0)
    finally:
        await transport.aclose()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://api.example/api/v3/io", "https://api.example/api/v3/io"),
        ("https://api.example/api/v3/io//", "https://api.example/api/v3/io"),
        ("https://api.example", "https://api.example"),
        ("https://api.example:8443/x", "https://api.example:8443/x"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://127.0.0.1:8080/io", "http://127.0.0.1:8080/io"),
        ("http://[::1]:8080/io", "http://[::1]:8080/io"),
        ("HTTPS://API.example/io", "https://api.example/io"),
    ],
)
def test_valid_base_urls(given: str, kept: str) -> None:
    """https anywhere, http on this machine; a trailing slash makes no difference."""
    assert Transport(given).base_url == kept


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            f"http://api.example/{SECRET}",
            "base_url is not https: the credential would be sent to api.example",
        ),
        ("http://127.0.0.1.example/io", "base_url is not https"),
        ("http://localhost.example/io", "base_url is not https"),
        (SECRET, "base_url is not a complete URL"),
        ("", "base_url is not a complete URL"),
        ("/api/v3/io", "base_url is not a complete URL"),
        ("ftp://api.example", "base_url is not a complete URL"),
        ("https://", "base_url is not a complete URL"),
        ("https://api.example:port/", "base_url is not a complete URL"),
        ("https://api.example:99999/", "base_url is not a complete URL"),
        ("https://[::1", "base_url is not a complete URL"),
        (None, "base_url is not a complete URL"),
        (f"https://me:{SECRET}@api.example/io", "base_url holds a user name or password"),
        (f"https://api.example/io?authToken={SECRET}", "base_url must end with its path"),
        (f"https://api.example/io#{SECRET}", "base_url must end with its path"),
    ],
)
def test_invalid_base_url_is_refused_but_not_shown(given: Any, says: str) -> None:
    """An invalid base URL is refused but not quoted, since it may contain a credential."""
    with pytest.raises(ConfigurationError, match=says) as caught:
        Transport(given)
    assert SECRET not in f"{caught.value} {caught.value!r}"
    assert caught.value.__cause__ is None


def test_plain_http_can_be_allowed() -> None:
    """http to another machine is possible if the caller says that the network is safe."""
    assert Transport("http://gateway.internal/io", allow_http=True).base_url == "http://gateway.internal/io"


def test_session_must_be_a_client_session() -> None:
    """An argument that is not a session raises an error that names its type."""
    wrong: Any = "session"
    with pytest.raises(ConfigurationError, match=r"session is str; pass an open aiohttp.ClientSession"):
        Transport(BASE, session=wrong)


async def test_echoed_credential_is_redacted(played: aioresponses) -> None:
    """If a gateway echoes our headers, the error about its answer does not show the credential."""
    played.get(f"{BASE}/ip/payments/70", status=401, body=f'{{"message":"bad token {SECRET} for abc123"}}')
    transport = Transport(BASE)
    await transport.open()
    answer = await transport.send(get_payment(70), HEADERS, timeout=5.0)
    await transport.aclose()
    with pytest.raises(AuthenticationError, match=r"401 bad token \*\*\* for abc123"):
        read_envelope(get_payment(70), answer, BASE)
