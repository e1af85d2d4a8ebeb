"""The package's pytest fixtures: a sandbox and its client, in the test's event loop.

Sandbox and async client must run in the test's event loop, so both fixtures have variants: for async tests
with pytest-asyncio (one for each loop scope) or anyio's plugin, and for other tests, where the sandbox runs
in a thread and the client is the blocking one. Heavy imports wait until a test uses a fixture.
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
    """Return a fresh sandbox of 1,000 payments without a quota. Change it with `payments_sandbox.rules`."""
    sandbox: Sandbox = request.getfixturevalue(f"_payments_sandbox_{_kind(request)}")
    return sandbox


@pytest.fixture
def payments_client(request: pytest.FixtureRequest) -> PaymentsClient | blocking.PaymentsClient:
    """Return an open client of `payments_sandbox`, without a quota, that retries at once.

    In an async test it is a `b2b_payments.PaymentsClient`, else a `b2b_payments.blocking.PaymentsClient`.
    """
    client: PaymentsClient | blocking.PaymentsClient
    client = request.getfixturevalue(f"_payments_client_{_kind(request)}")
    return client


def _kind(request: pytest.FixtureRequest) -> str:
    """Return the variant for a test: its loop scope, ``anyio``, or ``thread`` if it has no event loop."""
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

    # An earlier test's sandbox may have used the same port.
    forget_all()
    TURNS.forget()
    return Sandbox(rules=Rules(quota=False))


def _settings(sandbox: Sandbox) -> dict[str, Any]:
    from b2b_payments._retry import RetryPolicy

    quick = RetryPolicy(base_delay=0.001, max_delay=0.002)
    return {"auth": sandbox.auth, "base_url": sandbox.base_url, "quota": None, "retry": quick}


def _in_the_loop(fixture: Callable[..., Any], kind: str) -> None:
    """Define one kind's fixtures, which run in the test's event loop."""

    async def serve() -> AsyncIterator[Sandbox]:
        async with _fresh() as sandbox:
            yield sandbox  # noqa: ASYNC119 - pytest closes its fixtures

    async def connect(payments_sandbox: Sandbox) -> AsyncIterator[PaymentsClient]:
        from b2b_payments._client import PaymentsClient

        async with PaymentsClient(**_settings(payments_sandbox)) as client:
            yield client  # noqa: ASYNC119

    for name, function in (("sandbox", serve), ("client", connect)):
        fixture_name = f"_payments_{name}_{kind}"
        globals()[fixture_name] = fixture(function, name=fixture_name)


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
    """Replaces what a mocked response does not need: a request's writer, a connection's parser."""

    output_size = 0

    def pause_reading(self) -> None:
        """Do nothing: a mocked body is complete from the start."""


@pytest.fixture
def payments_aioresponses(monkeypatch: pytest.MonkeyPatch) -> Iterator[aioresponses]:
    """Yield an `aioresponses` mock that works with the version of aiohttp that this library needs.

    aioresponses 0.7.9 supports aiohttp 3.13: in 3.14, responses need a `stream_writer`, and a body of more
    than 128 KiB pauses the connection's parser.
    """
    import aioresponses.core
    from aiohttp import ClientResponse

    core: Any = aioresponses.core
    make_reader = core.stream_reader_factory

    class Response(ClientResponse):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{"stream_writer": _Idle(), **options})

    def reader(loop: Any = None) -> Any:
        stream = make_reader(loop)
        stream._protocol._parser = _Idle()  # noqa: SLF001
        return stream

    monkeypatch.setattr(core, "ClientResponse", Response)
    monkeypatch.setattr(core, "stream_reader_factory", reader)
    with aioresponses.aioresponses() as answers:
        yield answers
