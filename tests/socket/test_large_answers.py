"""Answers that are far too large: refused before they cost memory or time, or read in smaller pages."""

from __future__ import annotations

import json
import socket
import threading
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from b2b_payments import PaymentsClient, ResponseDecodeError, StoreAuth
from b2b_payments._protocol.json import MAX_BYTES, MAX_LISTS, MAX_OBJECTS, MAX_VALUES
from b2b_payments._protocol.listing import MAX_ROWS_A_PAGE
from b2b_payments.sandbox import Fault, Sandbox
from tests.support.clients import NEVER, client_of
from tests.support.examples import LISTED_PAYMENT

MIB = 2**20
Use = Callable[[PaymentsClient], Awaitable[object]]
Rows = Sequence[bytes]


class Server:
    """A service in a thread that sends prepared bytes, so that it needs no memory of its own."""

    def __init__(self, answer: Callable[[str, dict[str, str]], bytes]) -> None:
        self._answer = answer
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/io"
        self.limits: list[int] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while head := connection.recv(65_536).decode():
                    target = urlsplit(head.split(" ", 2)[1])
                    query = {name: values[-1] for name, values in parse_qs(target.query).items()}
                    self.limits.append(int(query.get("limit", 0)))
                    body = self._answer(target.path, query)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
                    connection.sendall(body)
            except OSError:
                return  # the client has seen enough

    def close(self) -> None:
        """Stop listening."""
        self._listening.close()


@contextmanager
def serving(answer: Callable[[str, dict[str, str]], bytes]) -> Iterator[tuple[Server, PaymentsClient]]:
    """Yield a server and a client of it."""
    server = Server(answer)
    try:
        yield (
            server,
            PaymentsClient(StoreAuth("abc123", "token"), base_url=server.base_url, quota=None, retry=NEVER),
        )
    finally:
        server.close()


def row(number: int, **fields: Any) -> bytes:
    """Return a row with some fields changed."""
    moment = 1_700_000_000 + number
    changed = {"id": number, "createdAt": moment, "updatedAt": moment, "lineItems": [], **fields}
    return json.dumps(LISTED_PAYMENT | changed).encode()


def page_of(rows: Sequence[bytes], total: int | None = None) -> bytes:
    """Return a page of these rows."""
    counted = json.dumps({"pagination": {"totalCount": len(rows) if total is None else total}}).encode()
    return b'{"code":200,"data":[%b],"meta":%b}' % (b",".join(rows), counted)


def tiny(number: int) -> bytes:
    """Return the smallest row that a walk accepts."""
    return b'{"id":%d,"createdAt":%d}' % (number, number)


def row_with(field: str, value: bytes) -> bytes:
    """Return a row with a value that is already encoded."""
    return row(1, **{field: None}).replace(
        b'"%b": null' % field.encode(), b'"%b": %b' % (field.encode(), value)
    )


PAGES: dict[str, Callable[[], bytes]] = {
    "a million tiny rows": lambda: page_of([tiny(number) for number in range(1, 1_000_001)]),
    "a million empty rows": lambda: page_of([b"{}"] * 1_000_000),
    "rows without end": lambda: page_of([tiny(number) for number in range(1, 38_001)]),
    "more than ten thousand rows": lambda: page_of([tiny(number) for number in range(1, 12_001)]),
    "a row of 32 MiB": lambda: page_of([row_with("customerName", b'"%b"' % (b"x" * 31 * MIB))]),
    "a million line items": lambda: page_of(
        [row_with("lineItems", b"[%b{}]" % (b'{"paymentId":1},' * 1_000_000))]
    ),
    "a million fields": lambda: page_of(
        [row_with("z", b'1,%b"last":1' % b"".join([b'"f%d":1,' % place for place in range(1_000_000)]))]
    ),
    "a million lists": lambda: page_of([row_with("moduleData", b'{"a":[%b[]]}' % (b"[]," * 1_000_000))]),
    "lists in lists": lambda: b'{"code":200,"data":%b%b}' % (b"[" * MIB, b"]" * MIB),
    "brackets in a text": lambda: page_of([row_with("customerName", b'"%b"' % (b"[" * 7 * MIB))]),
}
USES: dict[str, Use] = {
    "a walk": lambda client: client.payments.list(page_size=2).collect(),
    "a payment": lambda client: client.payments.get(1),
}


async def _all(pages: Any) -> list[Any]:
    return [page async for page in pages]


async def _refused(client: PaymentsClient, use: Use) -> None:
    with pytest.raises(ResponseDecodeError) as caught:
        await use(client)
    text = str(caught.value)
    assert caught.value.too_large or "nested too deeply" in text or "belongs to another request" in text


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
async def test_too_large_answers_are_refused(page: Callable[[], bytes]) -> None:
    """A million of anything is refused, in a walk and in a call, within 48 MiB."""
    body = page()
    with serving(lambda *_: body) as (_, client):
        async with client:
            await _refused(client, USES["a payment"])
            tracemalloc.start()
            try:
                await _refused(client, USES["a walk"])
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
    assert peak < 48 * MIB


LARGEST: dict[str, Callable[[], bytes]] = {
    "rows": lambda: page_of([row(number) for number in range(1, 3_001)]),
    "text": lambda: page_of([row(1, customerName="\n" * (MAX_BYTES // 2 - 2_000))]),
    "line items": lambda: page_of([row(1, lineItems=[{}] * (MAX_OBJECTS - 20))]),
    "values": lambda: page_of([row(1, moduleData={"a": [1.5] * (MAX_VALUES - 50)})]),
    "lists": lambda: page_of([row(1, moduleData={"a": [[]] * (MAX_LISTS - 50)})]),
    "brackets in a text": lambda: page_of([row(1, customerName="[" * (2 * MAX_LISTS - 500))]),
}


@pytest.mark.slow
@pytest.mark.parametrize("page", LARGEST.values(), ids=LARGEST)
async def test_largest_allowed_answer(page: Callable[[], bytes]) -> None:
    """The largest answer that is read takes 64 MiB at most."""
    body = page()
    count = json.loads(body)["meta"]["pagination"]["totalCount"]

    async def walk(client: PaymentsClient) -> None:
        seen = 0
        async for payment in client.payments.list():
            seen += 1
            assert payment.id == seen
        assert seen == count

    backwards = page_of([row(number) for number in range(count, 0, -1)]) if count > 1 else body

    with serving(lambda _, query: body if query["orderBy"] == "ASC" else backwards) as (_, client):
        async with client:
            tracemalloc.start()
            try:
                await walk(client)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
    assert peak < 64 * MIB


def _list_of(rows: Rows, *, most: int = 250) -> Callable[[str, dict[str, str]], bytes]:
    """Return the answers of a list of these rows, in either order, with a maximum page size."""

    def answer(_: str, query: dict[str, str]) -> bytes:
        ordered = rows[::-1] if query["orderBy"] == "DESC" else rows
        limit = most if most > 250 else min(most, int(query["limit"]))
        return page_of(ordered[int(query["offset"]) :][:limit], len(rows))

    return answer


@pytest.mark.slow
async def test_large_rows_are_read_in_smaller_pages() -> None:
    """If 250 rows exceed a limit, smaller pages are read, and no row is missing."""
    rows = [row(number, details={"memo": "x" * 60_000}) for number in range(1, 301)]
    with serving(_list_of(rows)) as (server, client):
        async with client:
            walk = client.payments.list()
            assert [payment.id async for payment in walk] == list(range(1, 301))
            assert walk.report.complete
    assert server.limits[:4] == [250, 249, 200, 100]
    assert set(server.limits[4:]) == {50}


@pytest.mark.slow
async def test_pages_of_thousands_of_rows_are_read() -> None:
    """A service that returns 3,000 rows for a limit of 250 is read normally."""
    rows = [row(number) for number in range(1, 6_501)]
    with serving(_list_of(rows, most=3_000)) as (_, client):
        async with client:
            walk = client.payments.list()
            assert [payment.id async for payment in walk] == list(range(1, 6_501))
            assert walk.report.complete


@pytest.mark.slow
async def test_one_oversized_page_is_survived() -> None:
    """A page of a million rows is read again with fewer rows; a call is repeated."""
    async with Sandbox(600) as sandbox, client_of(sandbox) as client:
        sandbox.order(Fault.FLOOD, times=1)
        assert len(await client.payments.list().collect()) == 600
        sandbox.order(Fault.FLOOD, times=1)
        assert (await client.payments.get(1)).id == 1
        sandbox.order(Fault.FLOOD, share=1)
        with pytest.raises(ResponseDecodeError, match=r"more than 20,000 objects"):
            await client.payments.list().collect()
    assert MAX_ROWS_A_PAGE == 10_000
