"""The faults of the fault suite: a service that fails a third of all requests, and its client."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import attrs
from aiohttp.abc import AbstractResolver, ResolveResult

from b2b_payments import PaymentsClient, RetryPolicy
from b2b_payments.sandbox import Fault, Rules, Sandbox

SHARE = 1 / 3
"""The share of all requests that are affected."""


@attrs.frozen
class Trouble:
    """One kind of fault. None as `fault` means that the connection is refused."""

    name: str
    fault: Fault | None = None
    rules: Rules = attrs.field(factory=lambda: Rules(drip_interval=1.0))


def _refusal(name: str, *headers: str) -> Trouble:
    return Trouble(f"429, {name}", Fault.RATE_LIMITED, Rules(refusal_headers=headers))


TROUBLES = (
    Trouble("connect refused"),
    Trouble("reset before the body is read", Fault.REFUSE),
    Trouble("reset before the answer", Fault.RESET_BEFORE),
    Trouble("reset during the answer", Fault.RESET_DURING),
    Trouble("reset instead of the answer", Fault.RESET_AFTER),
    Trouble("truncated body", Fault.TRUNCATED),
    Trouble("garbage", Fault.GARBAGE),
    Trouble("empty 200", Fault.EMPTY),
    Trouble("HTML with 200", Fault.WRONG_TYPE),
    Trouble("HTML 502", Fault.HTML_502),
    Trouble("HTML 502, carried out", Fault.HTML_502_AFTER),
    _refusal("documented headers", "documented"),
    _refusal("Retry-After", "retry-after"),
    _refusal("Retry-After as a date", "retry-after-date"),
    _refusal("X-Retry-After", "x-retry-after"),
    _refusal("X-Rate-Limit", "rate-limit"),
    _refusal("no header"),
    Trouble("500", Fault.ERROR_500),
    Trouble("500, carried out", Fault.ERROR_500_AFTER),
    Trouble("503", Fault.ERROR_503),
    Trouble("200 with code 500", Fault.OK_WITH_CODE_500),
    Trouble("200 with code 500, carried out", Fault.OK_WITH_CODE_500_AFTER),
    Trouble("hang", Fault.HANG_BEFORE),
    Trouble("hang, carried out", Fault.HANG),
    Trouble("slow drip", Fault.DRIP),
)


@asynccontextmanager
async def troubled(
    trouble: Trouble, payments: int, retry: RetryPolicy
) -> AsyncIterator[tuple[Sandbox, PaymentsClient]]:
    """Yield a sandbox, and a client with the default quota and timeout, a third of whose requests fail."""
    async with Sandbox(payments=payments, rules=trouble.rules) as sandbox:
        if trouble.fault is None:
            async with _refusing_session() as session:
                base_url = sandbox.base_url.replace("127.0.0.1", "localhost")
                client = PaymentsClient(sandbox.auth, base_url=base_url, retry=retry, session=session)
                async with client:
                    yield sandbox, client
        else:
            sandbox.order(trouble.fault, share=SHARE)
            async with PaymentsClient(sandbox.auth, base_url=sandbox.base_url, retry=retry) as client:
                yield sandbox, client


@asynccontextmanager
async def _refusing_session() -> AsyncIterator[aiohttp.ClientSession]:
    """Yield a session that opens a connection per request, a third of them to a closed port."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # it never listens
        resolver = _Resolver(closed.getsockname()[1])
        connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session:
            yield session


class _Resolver(AbstractResolver):
    """Resolves every host to loopback, for a share of the connections with a closed port."""

    def __init__(self, closed: int) -> None:
        self._closed = closed
        self._random = random.Random("connect refused")

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 - the base class has it
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host="127.0.0.1",
                port=self._closed if self._random.random() < SHARE else port,
                family=socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""
