"""A planted credential is searched for in everything that the library emits, in every failure."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from decimal import Decimal
from typing import Any

import aiohttp
import anyio
import attrs
import msgspec
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from b2b_payments import (
    B2BPaymentsError,
    ConfigurationError,
    LegacyAuth,
    OfflineLineItem,
    OfflinePayment,
    PaymentsClient,
    Quota,
    StoreAuth,
    TransportError,
)
from b2b_payments.sandbox import Fault, Rules, Sandbox, SeenRequest
from tests.socket.test_secrecy import HARMLESS
from tests.support.clients import NEVER, client_of
from tests.support.examples import SHOWN_PAYMENT
from tests.support.leaks import Emitted
from tests.support.raw_server import RawServer

MARK = "marked-7f3a/credential+9c"
"""With characters that JSON and URLs may write in another way."""

PLAIN = "marked7f3a"
RIGHT = "sandbox-access-token-0"
STORE = "sbx7k2m9qd"
OFFLINE = OfflinePayment(
    customer_id="95075",
    currency="USD",
    line_items=[OfflineLineItem(13, Decimal("20.00"))],
    details={},
    external_id="MARKED-1",
)
LARGE = frozenset({Fault.HUGE, Fault.GZIP_BOMB})
SLOW = frozenset({Fault.HANG, Fault.HANG_BEFORE, Fault.DRIP})

Work = Callable[[PaymentsClient], Awaitable[Any]]
WORKS: dict[str, Work] = {
    "get": lambda client: client.payments.get(1),
    "list": lambda client: client.payments.list(page_size=10, concurrency=2).collect(),
    "stream": lambda client: client.payments.stream(channel_ids=[1, 2], page_size=10).collect(),
    "create": lambda client: client.payments.create_offline(OFFLINE),
    "delete": lambda client: client.payments.delete(1),
    "perform": lambda client: client.payments.perform_operation(1, 0),
    "channels": lambda client: client.channels.list(),
}
EVERY_WORK = pytest.mark.parametrize("work", WORKS.values(), ids=WORKS.keys())


@pytest.fixture
def emitted() -> Iterator[Emitted]:
    """Yield a collector of everything that the library emits."""
    with Emitted() as one:
        yield one


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Yield a small sandbox without a quota."""
    async with Sandbox(30, rules=Rules(quota=False)) as one:
        yield one


async def fail(emitted: Emitted, client: PaymentsClient, work: Work) -> B2BPaymentsError | None:
    """Do the work, and record how it fails and what the client shows of itself."""
    failure: B2BPaymentsError | None = None
    async with client:
        try:
            await work(client)
        except B2BPaymentsError as error:
            failure = error
            emitted.error(error)
        parts = client, client._auth, client._caller, client._transport, client._caller.credential
        emitted.add(
            "repr", " ".join(f"{part!r} {part}" for part in (*parts, client.payments, client.channels))
        )
    return failure


def assert_urls_are_clean(sandbox: Sandbox, *marks: str) -> None:
    """Assert that no URL and no body contained the credential."""
    urls = [f"{seen.path} {seen.query} {seen.body}" for seen in sandbox.requests]
    assert urls
    assert not [url for url in urls if any(mark in url for mark in marks)]


@pytest.mark.virtual_time
@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (fault, name)
        for number, fault in enumerate(Fault)
        for name in ("get", "list", "create", ("stream", "delete", "perform", "channels")[number % 4])
        if fault not in LARGE or name == "get"
    ],
    ids=str,
)
async def test_no_fault_reveals_the_credential(
    emitted: Emitted, sandbox: Sandbox, fault: Fault, name: str
) -> None:
    """Whatever the service's fault, nothing emitted contains the credential."""
    sandbox.order(fault, share=1.0)
    timeout = 0.3 if fault in SLOW else 20.0
    about: dict[str, Any] = {"retry": NEVER, "timeout": timeout, "quota": Quota(10_000, 60)}
    failure = await fail(emitted, client_of(sandbox, **about, on_event=emitted.listen), WORKS[name])
    assert failure is not None or fault in HARMLESS | {Fault.NAN, Fault.INVALID_UTF8}
    assert not emitted.found(RIGHT)
    assert emitted.count("log record") > 3
    assert emitted.count("event") > 3
    assert_urls_are_clean(sandbox, RIGHT)


async def marked() -> str:
    """Return the marked token."""
    return MARK


async def marked_with_a_line_break() -> str:
    """Return the marked token as read from a file."""
    return f"{MARK}\n"


async def marked_bytes() -> Any:
    """Return bytes instead of a string."""
    return MARK.encode()


async def marked_error() -> str:
    """Fail, with the credential in the error and in its cause."""
    raise RuntimeError(f"no token: {MARK}") from KeyError(MARK)


AUTHS = [
    StoreAuth(STORE, MARK),
    LegacyAuth(MARK),
    StoreAuth(STORE, marked),
    LegacyAuth(marked),
    StoreAuth(STORE, marked_with_a_line_break),
    StoreAuth(STORE, marked_bytes),
    StoreAuth(STORE, marked_error),
]


@EVERY_WORK
@pytest.mark.parametrize(
    "auth", AUTHS, ids=lambda auth: f"{type(auth).__name__} {getattr(auth.token, '__name__', 'text')}"
)
async def test_refused_credential_is_not_shown(
    emitted: Emitted, sandbox: Sandbox, auth: StoreAuth | LegacyAuth, work: Work
) -> None:
    """A credential that the service refuses, or whose provider fails, is reported without being shown."""
    client = client_of(sandbox, auth=auth, on_event=emitted.listen)
    assert await fail(emitted, client, work) is not None
    assert not emitted.found(MARK)


def echoes() -> dict[str, Callable[[SeenRequest], web.Response]]:
    """Return answers that repeat the credential wherever an answer can."""
    slashed = MARK.replace("/", "\\/")
    escaped = "".join(f"\\u{ord(char):04X}" for char in MARK)
    said = msgspec.json.encode({"code": 400, "data": {"errMsg": f"bad token {MARK}"}})
    fields = msgspec.json.encode({"code": 422, "data": {MARK: [f"bad {MARK}"]}, "meta": {"message": MARK}})
    return {
        "message": lambda _: web.Response(status=400, body=said),
        "message, written as PHP does": lambda _: web.Response(
            status=400, body=said.replace(MARK.encode(), slashed.encode())
        ),
        "message, every character escaped": lambda _: web.Response(
            status=400, body=said.replace(MARK.encode(), escaped.encode())
        ),
        "of a list, with rows": lambda _: web.Response(
            body=b'{"code": 401, "data": [], "meta": {"message": "%b"}}' % escaped.encode()
        ),
        "200, escaped": lambda _: web.Response(body=said.replace(MARK.encode(), escaped.encode())),
        "nested too deeply": lambda _: web.Response(
            body=b'{"data": %b"%b"%b}' % (b"[" * 999, MARK.encode(), b"]" * 999)
        ),
        "fields": lambda _: web.Response(status=422, body=fields),
        "200": lambda _: web.Response(status=200, body=said),
        "HTML": lambda _: web.Response(status=502, text=f"<p>{MARK}</p>", content_type="text/html"),
        "not JSON": lambda _: web.Response(status=200, text=MARK),
        "wrong shape": lambda _: web.Response(status=200, body=b'{"code":200,"data":"%b"}' % MARK.encode()),
        "headers": lambda _: web.Response(
            status=429,
            reason=MARK,
            headers=dict.fromkeys(
                ("X-Request-Id", "Trace-Id", "Retry-After", "Location", "Set-Cookie"), MARK
            ),
        ),
    }


@pytest.mark.parametrize("answer", echoes().values(), ids=echoes().keys())
async def test_echoed_credential_is_redacted(
    emitted: Emitted, sandbox: Sandbox, answer: Callable[[SeenRequest], web.Response]
) -> None:
    """An answer that repeats the credential, in any place, does not put it into an error."""
    sandbox.answer_with(answer)
    for name in ("get", "list", "channels"):
        client = client_of(sandbox, auth=LegacyAuth(MARK), retry=NEVER, on_event=emitted.listen)
        assert await fail(emitted, client, WORKS[name]) is not None
    assert not emitted.found(MARK)


async def test_redirect_target_gets_no_request(emitted: Emitted, sandbox: Sandbox) -> None:
    """A redirect to another server is an error, and that server gets no request at all."""
    async with RawServer(lambda connection: connection.answer()) as elsewhere:
        sandbox.rules = attrs.evolve(sandbox.rules, redirect_to=f"{elsewhere.base_url}/ip/payments")
        sandbox.order(Fault.REDIRECT, share=1.0)
        for work in WORKS.values():
            assert await fail(emitted, client_of(sandbox, retry=NEVER), work) is not None
        assert (elsewhere.connections, elsewhere.requests) == (0, [])
    assert not emitted.found(RIGHT)


class NoSuchHost(AbstractResolver):
    """A resolver that finds no host."""

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        """Fail as a resolver does."""
        raise OSError(None, f"DNS lookup of {host}:{port} ({family}) failed")

    async def close(self) -> None:
        """Have nothing to close."""


async def test_connection_errors_show_no_credential(emitted: Emitted, sandbox: Sandbox) -> None:
    """Errors for an unknown host, a port without TLS and a refused connection have no credential."""
    connector = aiohttp.TCPConnector(resolver=NoSuchHost())
    async with aiohttp.ClientSession(connector=connector) as session:
        unknown = client_of(
            sandbox,
            auth=LegacyAuth(MARK),
            base_url="https://no-such-host.invalid",
            session=session,
            retry=NEVER,
        )
        assert isinstance(await fail(emitted, unknown, WORKS["get"]), TransportError)
    auth = LegacyAuth(MARK)
    tls = client_of(sandbox, auth=auth, base_url=sandbox.base_url.replace("http:", "https:"), retry=NEVER)
    assert isinstance(await fail(emitted, tls, WORKS["get"]), TransportError)
    await sandbox.pause_listening()
    refused = client_of(sandbox, auth=auth, retry=NEVER)
    assert isinstance(await fail(emitted, refused, WORKS["get"]), TransportError)
    assert not emitted.found(MARK)


@pytest.mark.virtual_time
@EVERY_WORK
async def test_cancelled_call_shows_no_credential(emitted: Emitted, sandbox: Sandbox, work: Work) -> None:
    """Neither a cancellation nor a deadline leaves the credential in this library's frames."""
    sandbox.order(Fault.HANG, share=1.0)
    heard = asyncio.Event()

    def listen(event: Any) -> None:
        emitted.listen(event)
        heard.set()

    async with client_of(sandbox, on_event=listen, timeout=60.0) as client:
        task = asyncio.ensure_future(work(client))
        await heard.wait()
        task.cancel()
        try:
            await task
        except asyncio.CancelledError as error:
            emitted.error(error)
    with pytest.raises(TimeoutError) as caught, anyio.fail_after(0.05):
        async with client_of(sandbox, timeout=60.0) as client:
            await work(client)
    emitted.error(caught.value)
    late = client_of(sandbox, deadline=0.05, timeout=60.0)
    assert await fail(emitted, late, work) is not None
    assert emitted.count("traceback") >= 3
    assert not emitted.found(RIGHT)


@EVERY_WORK
async def test_closed_client_shows_no_credential(emitted: Emitted, sandbox: Sandbox, work: Work) -> None:
    """The error of a client used before or after its `async with` has no credential."""
    client = PaymentsClient(LegacyAuth(MARK), base_url=sandbox.base_url)
    for _ in range(2):
        with pytest.raises(ConfigurationError) as caught:
            await work(client)
        emitted.error(caught.value)
        await client.aclose()
    assert not emitted.found(MARK)


MISUSES: dict[str, Callable[[PaymentsClient], Any]] = {
    "id": lambda client: client.payments.get(0),
    "page size": lambda client: client.payments.list(page_size=0),
    "channels": lambda client: client.payments.stream(channel_ids=[]),
    "sort key": lambda client: client.payments.list(sort_by="id"),
    "status": lambda client: client.payments.update_processing_status(1, 9),
}


@pytest.mark.parametrize("misuse", MISUSES.values(), ids=MISUSES.keys())
async def test_invalid_arguments_show_no_credential(
    emitted: Emitted, sandbox: Sandbox, misuse: Callable[[PaymentsClient], Any]
) -> None:
    """An invalid argument is refused without the credential."""

    async def work(client: PaymentsClient) -> None:
        if asyncio.iscoroutine(made := misuse(client)):
            await made

    failure = await fail(emitted, client_of(sandbox, auth=LegacyAuth(MARK)), work)
    assert isinstance(failure, ConfigurationError)
    assert not emitted.found(MARK)


def wrong_places(environ: pytest.MonkeyPatch) -> dict[str, Callable[[], object]]:
    """Return ways to pass a credential in the wrong place, or an invalid one."""
    auth: Any = StoreAuth(STORE, "token-1")
    text: Any = MARK

    def from_env(**variables: str) -> PaymentsClient:
        for name, value in variables.items():
            environ.setenv(f"B2B_PAYMENTS_{name}", value)
        return PaymentsClient.from_env()

    return {
        "user in base_url": lambda: PaymentsClient(auth, base_url=f"https://user:{PLAIN}@api.example/io"),
        "port in base_url": lambda: PaymentsClient(auth, base_url=f"https://api.example:{PLAIN}"),
        "query in base_url": lambda: PaymentsClient(auth, base_url=f"https://api.example/?token={PLAIN}"),
        "base_url": lambda: PaymentsClient(auth, base_url=text),
        "auth": lambda: PaymentsClient(text),
        "user in the environment": lambda: from_env(BASE_URL=f"https://{PLAIN}@api.example", AUTH_TOKEN=MARK),
        "both in the environment": lambda: from_env(ACCESS_TOKEN=MARK, AUTH_TOKEN=MARK),
        "no hash in the environment": lambda: from_env(ACCESS_TOKEN=MARK),
        "line break in the environment": lambda: from_env(AUTH_TOKEN=f"{MARK}\n"),
    }


@pytest.mark.parametrize("place", list(wrong_places(pytest.MonkeyPatch())))
def test_credential_in_the_wrong_place_is_not_shown(
    emitted: Emitted, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A credential passed as something else is refused without being shown."""
    for name in ("STORE_HASH", "ACCESS_TOKEN", "AUTH_TOKEN", "BASE_URL"):
        monkeypatch.delenv(f"B2B_PAYMENTS_{name}", raising=False)
    with pytest.raises(ConfigurationError) as caught:
        wrong_places(monkeypatch)[place]()
    emitted.error(caught.value)
    assert emitted.count("traceback")
    assert not emitted.found(MARK, PLAIN)


REFUSED: dict[str, Callable[[], object]] = {
    "access_token": lambda: StoreAuth(STORE, f"{MARK}\n"),
    "auth_token": lambda: LegacyAuth(f"{MARK}\n"),
    "bytes": lambda: LegacyAuth(MARK.encode()),  # type: ignore[arg-type]
    "store_hash": lambda: StoreAuth(MARK, "token-1"),
    "beside a wrong hash": lambda: StoreAuth("not a hash", MARK),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED.keys())
def test_invalid_credential_is_not_in_a_traceback(emitted: Emitted, make: Callable[[], object]) -> None:
    """A credential that is refused is not among the local variables of the error's traceback."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    emitted.error(caught.value)
    assert not emitted.found(MARK)


def test_warning_of_an_unclosed_client_shows_no_credential(emitted: Emitted) -> None:
    """The warning about a client that was never closed does not show the credential."""

    def forget() -> None:
        client = PaymentsClient(LegacyAuth(MARK), base_url="https://api.example")
        client._open = True
        del client
        gc.collect()

    with pytest.warns(ResourceWarning) as warned:
        forget()
    for one in warned:
        emitted.add("warning", f"{one.message} {one.message!r} {one.source!r}")
    assert not emitted.found(MARK)


COMMANDS = [
    ("get", "1"),
    ("export", "--output", "-"),
    ("get", "1", "--base-url", "https://user:secret@api.example"),
    ("get", "nonsense"),
]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
async def test_command_line_shows_no_credential(sandbox: Sandbox, command: tuple[str, ...]) -> None:
    """A failing command writes the environment's credential to neither of its outputs."""
    variables = {"B2B_PAYMENTS_AUTH_TOKEN": MARK, "B2B_PAYMENTS_BASE_URL": sandbox.base_url}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("B2B_PAYMENTS_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "dev", "-m", "b2b_payments", *command),
        env=kept | variables,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode not in {0, None}
    assert b"Error: " in err
    assert MARK.encode() not in out + err
    assert b"user:secret" not in out + err


async def test_token_in_a_payments_data_is_kept(sandbox: Sandbox) -> None:
    """A success is data: the token's text within a name or a memo is not redacted."""
    payment = {**SHOWN_PAYMENT, "id": 1, "payerName": "Contest GmbH", "details": {"memo": "test order"}}
    body = msgspec.json.encode({"code": 200, "data": payment})
    sandbox.answer_with(lambda _: web.Response(body=body))
    async with client_of(sandbox, auth=LegacyAuth("test")) as client:
        read = await client.payments.get(1)
    assert (read.payer_name, read.details["memo"]) == ("Contest GmbH", "test order")
