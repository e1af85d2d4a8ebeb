"""The caller's decimal context changes nothing: neither precision nor rounding, exponents or traps."""

from __future__ import annotations

import decimal
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from decimal import Context, Decimal
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from b2b_payments import (
    B2BPaymentsError,
    Fee,
    Money,
    OfflineLineItem,
    OfflinePayment,
    PaymentsClient,
    SortBy,
    StoreAuth,
    to_wire,
)
from b2b_payments._cli.offline import _from_json
from b2b_payments._converter import offline_payment_body, structure_payment
from b2b_payments._protocol.json import decode, encode
from b2b_payments.export import export, resume, sink_for, verify
from b2b_payments.sync import store_for, sync
from tests.support.clients import NEVER
from tests.support.examples import SHOWN_PAYMENT
from tests.support.export_reading import FORMATS, exact, tables_in
from tests.support.raw_server import Connection, RawServer

_SIGNALS = list(decimal.DefaultContext.traps)
CONTEXTS = {
    "one digit": Context(prec=1, rounding=decimal.ROUND_UP),
    "no exponents, no traps": Context(prec=2, Emin=0, Emax=0, clamp=1, traps=[]),
    "every trap": Context(prec=3, Emin=-1, Emax=1, capitals=0, clamp=1, traps=_SIGNALS),
}


@contextmanager
def hostile(context: Context) -> Iterator[None]:
    """Set a decimal context here and in every thread that starts meanwhile."""
    default = decimal.DefaultContext
    kept = default.copy()
    names = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")

    def become(other: Context) -> None:
        for name in names:
            setattr(default, name, getattr(other, name))
        for signal in _SIGNALS:
            default.traps[signal] = other.traps[signal]

    become(context)
    try:
        with decimal.localcontext(context):
            yield
    finally:
        become(kept)


ODD = SHOWN_PAYMENT | {
    "createdAt": "1700000001.25",
    "updatedAt": 1700000001.0,
    "customerId": decode(b"123456789012345678901234567890.5"),
    "total": {"code": "USD", "value": 12345.678},
    "fees": [{"type": "a", "amount": decode(b"0.10000000000000000000001")}, {"amount": 1.5}],
    "details": {"rate": decode(b"0.10000000000000000000001"), "least": decode(b"1.23456789012345678901e-30")},
}
NEW = OfflinePayment(
    "7", "USD", [OfflineLineItem(1, "12345.67"), OfflineLineItem(2, "0.0001")], external_id="ERP-1"
)


def _error(work: Callable[[], object]) -> object:
    try:
        return work()
    except B2BPaymentsError as error:
        return f"{type(error).__name__}: {error}"


def _worked_out() -> dict[str, Any]:
    """Do all that the library does with numbers without a service."""
    payment = structure_payment(ODD)
    return {
        "payment": payment,
        "wire": encode(to_wire(payment)),
        "a body": encode(offline_payment_body(NEW)),
        "money": [Money("USD", text) for text in ("12345.67", "-0.00", "1e3", "1E-30", Decimal("99.999"))],
        "a fee": Fee(amount=Decimal("12345.67")),
        "no amounts": [_error(partial(Money, "USD", text)) for text in ("1e99999999999999999999", "x")],
        "no payment": _error(
            lambda: structure_payment(ODD | {"total": {"code": "USD", "value": "1e9999999999"}})
        ),
        "out of range": _error(lambda: decode(b'{"a": 1e99999999999999999999}')),
        "from JSON": _from_json(
            io.BytesIO(
                b'{"customerId": 7, "currency": "USD", "details": {"rate": 0.12345678901234567890},'
                b'"lineItems": [{"invoiceId": 1, "amount": 12345.678901234567890}]}'
            )
        ),
    }


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_context_does_not_affect_numbers(context: Context) -> None:
    """Amounts, times, ids and refusals are the same under any context, to the last digit."""
    usual = _worked_out()
    with hostile(context):
        found = _worked_out()
    assert repr(found) == repr(usual)
    text = repr(usual["payment"])
    assert "2023, 11, 14, 22, 13, 21, 250000" in text
    assert "Decimal('12345.678')" in text


def _rows() -> list[dict[str, Any]]:
    """Return 40 payments with times that have fractions, and amounts of many digits and formats."""
    rows = []
    for number in range(1, 41):
        moment: object = f"{1_700_000_000 + number}.{number:02}" if number % 3 else 1_700_000_000 + number
        value = ("12345.678901", 0.1, "99999999999.000000000001", 7)[number % 4]
        rows.append(
            ODD
            | {
                "id": number,
                "createdAt": moment,
                "updatedAt": moment,
                "total": {"code": "USD", "value": value},
            }
        )
    return rows


async def _play(connection: Connection, requests: list[str]) -> None:
    """Answer with the list of these payments; a create is carried out, but not answered."""
    method, target = requests[-1].split(" ")
    query = {name: values[-1] for name, values in parse_qs(urlsplit(target).query).items()}
    if method == "POST":
        connection.reset()
        return
    rows = _rows()
    if "q" in query:
        sums = {"code": "USD", "value": "12345.6701"}
        created = {"externalId": "ERP-1", "customerId": "7", "createdAt": 4_000_000_000, "total": sums}
        posts = sum(line.startswith("POST") for line in requests)
        rows = [ODD | {"id": 76 + posts} | created]
    path = urlsplit(target).path
    if not path.endswith("payments"):
        data: object = next(row for row in rows if path.endswith(f"/{row['id']}"))
    else:
        rows.sort(key=lambda row: row["id"], reverse=query.get("orderBy") == "DESC")
        data = rows[int(query["offset"]) :][: int(query["limit"])]
    meta = {"pagination": {"totalCount": len(rows), "offset": int(query.get("offset", 0))}}
    await connection.answer(encode({"code": 200, "data": data, "meta": meta}))


@pytest.fixture
async def client() -> AsyncIterator[PaymentsClient]:
    """Yield a client of a service with those payments."""

    async def play(connection: Connection) -> None:
        await _play(connection, server.lines)

    async with (
        RawServer(play) as server,
        PaymentsClient(
            StoreAuth("abc123", "token"), base_url=server.base_url, quota=None, retry=NEVER
        ) as one,
    ):
        yield one


async def _carried_out(client: PaymentsClient, folder: Path) -> dict[str, Any]:
    """Do all that the library does with numbers over a socket and in worker threads."""
    done: dict[str, Any] = {}
    for order in ("ASC", "DESC"):
        walk = client.payments.list(page_size=7, order_by=order)
        pages = [page async for page in walk.pages()]
        checkpoints = [page.checkpoint for page in pages]
        again = client.payments.list(page_size=7, order_by=order, checkpoint=checkpoints[2])
        done[order] = (
            [page.items for page in pages],
            json.dumps(checkpoints),
            await again.collect(),
        )
    done["by total"] = await client.payments.list(sort_by=SortBy.TOTAL_AMOUNT).collect()
    done["created"] = await client.payments.create_offline(NEW) >= 77
    for format_ in FORMATS:
        path = folder / f"payments.{format_}"
        await export(client.payments.list(page_size=7), sink_for(path, format_))
        assert (
            await resume(lambda at: client.payments.list(checkpoint=at), sink_for(path, format_))
        ).complete
        manifest = verify(path)
        done[format_] = manifest.account.sums
        done[f"{format_} rows"] = path.read_bytes() if format_ in {"jsonl", "csv"} else path
    for name in ("copy.sqlite", "copy.duckdb"):
        await sync(client, store_for(folder / name))
        await sync(client, store_for(folder / name), sweep=True)
        done[name] = folder / name
    return done


def _read(done: dict[str, Any]) -> dict[str, Any]:
    """Return the result and the files, read by their formats' own libraries."""
    return {
        name: repr(list(map(exact, tables_in(came, came.suffix[1:]))) if isinstance(came, Path) else came)
        for name, came in done.items()
    }


@pytest.mark.slow
async def test_context_does_not_affect_walks_and_files(client: PaymentsClient, tmp_path: Path) -> None:
    """Walks, checkpoints, exports, manifests, copies and the search for a lost write are the same."""
    folders = [tmp_path / "usual", tmp_path / "hostile"]
    for folder in folders:
        folder.mkdir()
    usual = await _carried_out(client, folders[0])
    with hostile(CONTEXTS["every trap"]):
        done = await _carried_out(client, folders[1])
    assert _read(done) == _read(usual)
    assert usual["created"]
