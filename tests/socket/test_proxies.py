"""Requests through a proxy, given or from the environment, with credentials that are never shown."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from b2b_payments import B2BPaymentsError, ConfigurationError, PaymentsClient, TransportError
from b2b_payments.export import read_stores
from b2b_payments.sandbox import Sandbox
from tests.support.clients import NEVER
from tests.support.leaks import Emitted
from tests.support.proxy import Proxy, pump

HOST = "payments.example"
PASSWORD = "planted-pass"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the environment's proxy settings."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Yield a sandbox of three payments."""
    async with Sandbox(3) as one:
        yield one


def client_by(sandbox: Sandbox, scheme: str = "http", **settings: Any) -> PaymentsClient:
    """Return a client of a host that only the proxy can resolve."""
    given = {"quota": None, "retry": NEVER, "timeout": 5.0, "allow_http": True} | settings
    return PaymentsClient(sandbox.auth, base_url=f"{scheme}://{HOST}/api/v3/io", **given)


@pytest.mark.parametrize("lent", [False, True], ids=["own", "lent"])
async def test_requests_go_through_the_proxy(sandbox: Sandbox, *, lent: bool) -> None:
    """Reads and writes reach the service through the proxy, with a given session too."""
    async with Proxy(sandbox.port) as proxy, aiohttp.ClientSession() as session:
        async with client_by(sandbox, proxy=proxy.url, session=session if lent else None) as client:
            assert (await client.payments.get(1)).id == 1
            await client.payments.delete(2)
            assert [payment.id async for payment in client.payments.list()] == [1, 3]
        path = f"http://{HOST}/api/v3/io/ip/payments"
        assert proxy.asked[:2] == [f"GET {path}/1", f"DELETE {path}/2"]
        assert proxy.asked[2].startswith(f"GET {path}?")


async def test_proxy_credentials_go_only_to_the_proxy(sandbox: Sandbox) -> None:
    """A user name and password in the proxy's URL are sent to the proxy, not to the service."""
    async with Proxy(sandbox.port, wanted="me:p@ss") as proxy:
        address = proxy.url.replace("//", "//me:p%40ss@")
        async with client_by(sandbox, proxy=address) as client:
            assert (await client.payments.get(1)).id == 1
        assert proxy.credentials == ["me:p@ss"]
    assert not [name for name in sandbox.requests[-1].headers if name.lower().startswith("proxy-")]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
async def test_https_goes_through_a_tunnel(sandbox: Sandbox, tmp_path: Path) -> None:
    """https goes through CONNECT, and the certificate is checked for the service's host."""
    trusted, serving = certificates(tmp_path)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", sandbox.port)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    service = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=serving)
    async with Proxy(service.sockets[0].getsockname()[1]) as proxy:
        connector = aiohttp.TCPConnector(ssl=trusted)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            client_by(sandbox, "https", proxy=proxy.url, session=session) as client,
        ):
            assert (await client.payments.get(1)).id == 1
            assert (await client.payments.get(3)).id == 3
        assert proxy.asked == [f"CONNECT {HOST}:443"]
        async with client_by(sandbox, "https", proxy=proxy.url) as client:
            with pytest.raises(TransportError, match="its certificate is not trusted") as caught:
                await client.payments.get(1)
        assert not caught.value.sent
    service.close()


def certificates(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return SSL contexts of a client and a server, with a new certificate for the host."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        f"/CN={HOST}",
    ]
    command += ["-addext", f"subjectAltName=DNS:{HOST}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    trusted = ssl.create_default_context(cafile=str(certificate))
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(certificate, key)
    return trusted, serving


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_proxy_that_requires_credentials_is_named(sandbox: Sandbox, scheme: str) -> None:
    """A 407 is the proxy's answer: nothing was sent, and the error says what to do."""
    async with Proxy(sandbox.port, wanted="me:right") as proxy:
        address = proxy.url.replace("//", f"//me:{PASSWORD}@")
        async with client_by(sandbox, scheme, proxy=address) as client:
            with pytest.raises(TransportError) as caught:
                await client.payments.delete(1)
        assert caught.value.message == (
            f"DELETE /ip/payments/1: the proxy 127.0.0.1:{proxy.port} requires a user name and password, or "
            "rejects the given ones (407); put them into the proxy's URL, as in http://user:password@host:port."
        )
    assert not caught.value.sent
    assert sandbox.request_count == 0


@pytest.mark.parametrize("status", [403, 502, 503])
async def test_proxy_that_refuses_to_connect_is_named(sandbox: Sandbox, status: int) -> None:
    """If the proxy opens no tunnel, the error names it, and nothing was sent."""
    async with Proxy(sandbox.port, status=status) as proxy:
        async with client_by(sandbox, "https", proxy=proxy.url) as client:
            with pytest.raises(TransportError) as caught:
                await client.payments.get(1)
        says = f"the proxy 127.0.0.1:{proxy.port} refuses to connect to {HOST} ({status}); check its rules"
        assert says in caught.value.message
    assert not caught.value.sent


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_unreachable_proxy_is_named(sandbox: Sandbox, scheme: str) -> None:
    """If the proxy refuses or its name is unknown, the error says so, and nothing was sent."""
    async with Proxy(sandbox.port) as gone:
        address = gone.url
    for proxy, says in (
        (address, f"no connection to the proxy 127.0.0.1: {os.strerror(111)}"),
        ("http://proxy.invalid:3128", "the host proxy.invalid was not found; check base_url, the proxy and"),
    ):
        async with client_by(sandbox, scheme, proxy=proxy) as client:
            with pytest.raises(TransportError, match=says) as caught:
                await client.payments.get(1)
        assert not caught.value.sent


async def test_environment_proxy_needs_trust_env(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTPS_PROXY and HTTP_PROXY count only with `trust_env`; a scheme may be left out."""
    async with Proxy(sandbox.port) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removeprefix("http://"))
        async with client_by(sandbox, trust_env=True) as client:
            assert (await client.payments.get(1)).id == 1
        assert len(proxy.asked) == 1
        async with client_by(sandbox) as client:
            with pytest.raises(
                TransportError, match=f"the host {HOST} was not found; check base_url and the"
            ):
                await client.payments.get(1)
        assert len(proxy.asked) == 1
    async with Proxy(sandbox.port, status=403) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        async with client_by(sandbox, "https", trust_env=True) as client:
            with pytest.raises(TransportError, match="refuses to connect"):
                await client.payments.get(1)
        assert proxy.asked == [f"CONNECT {HOST}:443"]


async def test_given_proxy_overrides_the_environment(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A given proxy is used whatever the environment says, also for this machine."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    monkeypatch.setenv("NO_PROXY", "*")
    async with Proxy(sandbox.port) as proxy:
        async with client_by(sandbox, proxy=proxy.url, trust_env=True) as client:
            await client.payments.get(1)
        assert len(proxy.asked) == 1


@pytest.mark.parametrize(
    ("host", "no_proxy", "direct"),
    [
        (HOST, HOST, True),
        (HOST, ".example", True),
        (HOST, "other.example, payments.example:443", True),
        (HOST, "*", True),
        (HOST, "other.example", False),
        (HOST, "payments.example:8443", False),
        ("127.0.0.1", "", True),
        ("localhost", "", True),
    ],
)
async def test_no_proxy_hosts_are_reached_directly(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, host: str, no_proxy: str, *, direct: bool
) -> None:
    """A host in NO_PROXY is reached without the environment's proxy, and so is this machine."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    client = PaymentsClient(sandbox.auth, base_url=f"https://{host}/io", trust_env=True)
    async with client:
        assert (client._transport._proxy is None) is direct


@pytest.mark.parametrize(
    "proxy", ["socks5://h:1", "http://", "http://h:port", "http://h:99999", "", 3128, "http://[x"]
)
def test_invalid_proxy_is_refused_but_not_shown(sandbox: Sandbox, proxy: Any) -> None:
    """An address that is no http or https proxy's is refused, but not quoted."""
    given = proxy.replace("//", f"//me:{PASSWORD}@") if isinstance(proxy, str) else proxy
    with pytest.raises(
        ConfigurationError, match="proxy is not the address of an http or https proxy"
    ) as caught:
        client_by(sandbox, proxy=given)
    assert PASSWORD not in f"{caught.value} {caught.value.__context__}"


async def test_invalid_environment_proxy_names_the_variable(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable with another kind of proxy is an error before anything is sent."""
    monkeypatch.setenv("HTTPS_PROXY", f"socks5://me:{PASSWORD}@proxy.example:1080")
    client = client_by(sandbox, "https", trust_env=True)
    with pytest.raises(ConfigurationError, match=r"\(HTTPS_PROXY\) is not the address of an http") as caught:
        async with client:
            pass
    assert PASSWORD not in str(caught.value)
    wrong: Any = "yes"
    with pytest.raises(ConfigurationError, match="trust_env is str; give True"):
        client_by(sandbox, trust_env=wrong)


@pytest.mark.parametrize("status", [None, 407, 403, 502])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_proxy_password_is_never_shown(sandbox: Sandbox, scheme: str, status: int | None) -> None:
    """Errors, tracebacks, logs, events and reprs never contain the proxy's password."""
    with Emitted() as emitted:
        async with Proxy(sandbox.port, status=status) as proxy:
            address = proxy.url.replace("//", f"//me:{PASSWORD}@")
            client = client_by(sandbox, scheme, proxy=address, on_event=emitted.listen)
            async with client:
                try:
                    await client.payments.get(1)
                except B2BPaymentsError as error:
                    emitted.error(error)
                emitted.add("repr", f"{client!r} {client._transport!r} {vars(client._transport)}")
            assert proxy.credentials == [f"me:{PASSWORD}"]
        assert emitted.count("log record") > 3
        assert not emitted.found(PASSWORD, "bWU6")


@pytest.mark.slow
async def test_command_line_uses_the_environment_proxy() -> None:
    """A command uses HTTPS_PROXY; an invalid one is an error that hides its password."""
    variables = {"B2B_PAYMENTS_AUTH_TOKEN": "token", "HTTPS_PROXY": f"socks5://me:{PASSWORD}@proxy.example"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("B2B_", "COV"))}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "b2b_payments", "get", "1"),
        env=kept | variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode != 0
    assert b"The proxy of the environment (HTTPS_PROXY) is not the address of an http or https proxy" in err
    assert PASSWORD.encode() not in out + err


def test_stores_file_uses_the_environment_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each store of an export of many uses the environment's proxy too."""
    monkeypatch.setenv("NORTH_TOKEN", "token")
    file = tmp_path / "stores.toml"
    file.write_text('[[stores]]\nname = "north"\nstore_hash = "abc123"\naccess_token_env = "NORTH_TOKEN"\n')
    [store] = read_stores(str(file))
    assert store.client()._transport._trust_env
