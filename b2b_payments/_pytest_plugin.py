"""What installing this package gives pytest: a sandbox and a client of it, in the event loop of the test.

The two fixtures are of three kinds, since a sandbox and an async client live in one event loop: for an async
test that of its own plugin, pytest-asyncio (of any loop scope) or anyio's; for other tests a thread's, and
the client is a blocking one. Nothing heavy is imported before a test asks for a fixture.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from aioresponses import aioresponses

    from b2b_payments import blocking
    from b2b_payments._client import PaymentsClient
    from b2b_payments.sandbox import Sandbox

_LOOP_SCOPES = ("function", "class", "module", "package", "session")


@pytest.fixture
def payments_sandbox(request: pytest.FixtureRequest) -> Sandbox:
    """Return a fresh sandbox of 1,000 payments, without a quota: `payments_sandbox.rules` changes that."""
    sandbox: Sandbox = request.getfixturevalue(f"_payments_sandbox_{_kind(request)}")
    return sandbox


@pytest.fixture
def payments_client(request: pytest.FixtureRequest) -> PaymentsClient | blocking.PaymentsClient:
    """Return an open client of `payments_sandbox`, without a quota, that tries again at once.

    It is a `b2b_payments.PaymentsClient` in an async test, else a `b2b_payments.blocking.PaymentsClient`.
    """
    client: PaymentsClient | blocking.PaymentsClient
    client = request.getfixturevalue(f"_payments_client_{_kind(request)}")
    return client


def _kind(request: pytest.FixtureRequest) -> str:
    """Name the event loop in which a test runs: a loop scope, ``anyio``, or ``thread`` where it has none."""
    test = getattr(request.node, "obj", None)
    if not inspect.iscoroutinefunction(getattr(getattr(test, "hypothesis", None), "inner_test", test)):
        return "thread"
    marker = request.node.get_closest_marker("asyncio")
    if marker is not None and request.config.pluginmanager.hasplugin("asyncio"):
        default = request.config.getini("asyncio_default_test_loop_scope")
        return str(marker.kwargs.get("loop_scope") or default or "function")
    if "anyio_backend" in request.fixturenames:
        return "anyio"
    raise pytest.UsageError(
        "In an async test payments_sandbox and payments_client need pytest-asyncio, with asyncio_mode = auto "
        "or @pytest.mark.asyncio, or anyio's plugin, with @pytest.mark.anyio."
    )


def _fresh() -> Sandbox:
    from b2b_payments._quota.backends import forget_all
    from b2b_payments._resources.turns import TURNS
    from b2b_payments.sandbox import Rules, Sandbox

    # Another test's sandbox may have had the same port.
    forget_all()
    TURNS.forget()
    return Sandbox(rules=Rules(quota=False))


def _settings(sandbox: Sandbox) -> dict[str, Any]:
    from b2b_payments._retry import RetryPolicy

    quick = RetryPolicy(base_delay=0.001, max_delay=0.002)
    return {"auth": sandbox.auth, "base_url": sandbox.base_url, "quota": None, "retry": quick}


def _in_the_loop(fixture: Callable[..., Any], kind: str) -> None:
    """Make the fixtures of one kind that live in the event loop of the test."""

    async def serve() -> AsyncIterator[Sandbox]:
        async with _fresh() as sandbox:
            yield sandbox  # noqa: ASYNC119 - whoever runs the test closes its fixtures

    async def connect(payments_sandbox: Sandbox) -> AsyncIterator[PaymentsClient]:
        from b2b_payments._client import PaymentsClient

        async with PaymentsClient(**_settings(payments_sandbox)) as client:
            yield client  # noqa: ASYNC119

    for name, function in (("sandbox", serve), ("client", connect)):
        known_as = f"_payments_{name}_{kind}"
        globals()[known_as] = fixture(function, name=known_as)


def _for_loop_scope(scope: str) -> Callable[..., Any]:
    import pytest_asyncio

    def fixture(function: Any, name: str) -> Any:
        return pytest_asyncio.fixture(loop_scope=cast("Any", scope), name=name)(function)

    return fixture


_in_the_loop(pytest.fixture, "anyio")
for _scope in _LOOP_SCOPES if find_spec("pytest_asyncio") else ():
    _in_the_loop(_for_loop_scope(_scope), _scope)


@pytest.fixture
def _payments_sandbox_thread() -> Iterator[Sandbox]:
    from anyio.from_thread import start_blocking_portal

    with start_blocking_portal() as portal, portal.wrap_async_context_manager(_fresh()) as sandbox:
        yield sandbox


@pytest.fixture
def _payments_client_thread(payments_sandbox: Sandbox) -> Iterator[blocking.PaymentsClient]:
    from b2b_payments.blocking import PaymentsClient

    with PaymentsClient(**_settings(payments_sandbox)) as client:
        yield client


class _Idle:
    """Stands for what a played response has no use for: a request's writer, a connection's parser."""

    output_size = 0

    def pause_reading(self) -> None:
        """Do nothing: all of a played body is there already."""


@pytest.fixture
def payments_aioresponses(monkeypatch: pytest.MonkeyPatch) -> Iterator[aioresponses]:
    """Yield aioresponses' stand-in for the network, which works with the aiohttp that this library needs.

    aioresponses 0.7.9 knows aiohttp 3.13: responses of 3.14 want a `stream_writer`, and a body of more than
    128 KiB pauses the connection's parser.
    """
    import aioresponses.core
    from aiohttp import ClientResponse

    core: Any = aioresponses.core
    make_reader = core.stream_reader_factory

    class Response(ClientResponse):
        def __init__(self, *args: Any, **about: Any) -> None:
            super().__init__(*args, **{"stream_writer": _Idle(), **about})

    def reader(loop: Any = None) -> Any:
        made = make_reader(loop)
        made._protocol._parser = _Idle()  # noqa: SLF001
        return made

    monkeypatch.setattr(core, "ClientResponse", Response)
    monkeypatch.setattr(core, "stream_reader_factory", reader)
    with aioresponses.aioresponses() as answers:
        yield answers
