"""Walks as tables: Arrow, pandas and polars, with the columns of exports and every digit."""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from decimal import Decimal, localcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas
import polars
import pyarrow
import pytest
from pyarrow import parquet

from b2b_payments import ConfigurationError, Payment, PaymentsClient, ResponseDecodeError, to_dict
from b2b_payments._tables import arrow
from b2b_payments._tables.arrow import TableName
from b2b_payments.export import ExportError, ParquetSink, export
from b2b_payments.sandbox import Rules, Sandbox
from tests.support.clients import client_of

WIDEST = "-99999999999999999999999999.999999999999"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Yield a store of 600 payments."""
    async with Sandbox(600, rules=Rules(quota=False)) as one:
        yield one


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[PaymentsClient]:
    """Yield an open client of it."""
    async with client_of(sandbox) as one:
        yield one


async def test_columns_are_those_of_exports(client: PaymentsClient, tmp_path: Path) -> None:
    """Status names aside, a table has the columns and types of a Parquet file of the same walk."""
    table = await client.payments.list().to_arrow()
    await export(client.payments.list(), ParquetSink(tmp_path / "p.parquet"))
    kept = parquet.read_table(tmp_path / "p.parquet")
    place = table.column_names.index("processing_status")
    assert table.column_names[place + 1] == "processing_status_name"
    plain = table.drop_columns(["processing_status_name"])
    assert plain.column_names == kept.column_names
    flat = [name for name in kept.column_names if name != "line_items"]
    assert plain.select(flat).schema.types == kept.select(flat).schema.types
    assert plain.to_pylist() == kept.to_pylist()


async def test_cells_equal_the_models(client: PaymentsClient) -> None:
    """Ids, times, amounts and line items are those of the models, and so are the names of statuses."""
    payments = await client.payments.list().collect()
    rows = (await client.payments.list().to_arrow()).to_pylist()
    for payment, row in zip(payments, rows, strict=True):
        assert (row["id"], row["created_at"], row["total"]) == (
            payment.id,
            payment.created_at,
            payment.total.amount,
        )
        assert row["processing_status_name"] == getattr(payment.processing_status, "name", None)
        assert [(item["invoice_id"], item["amount"]) for item in row["line_items"]] == [
            (item.invoice_id, item.amount and item.amount.amount) for item in payment.line_items
        ]


async def test_line_items_as_rows(client: PaymentsClient) -> None:
    """The line items table has a row for each line item, with its payment and its position in it."""
    payments = await client.payments.list().collect()
    rows = (await client.payments.list().to_arrow(table="line_items")).to_pylist()
    assert [(row["payment_id"], row["position"], row["invoice_id"]) for row in rows] == [
        (payment.id, place, item.invoice_id)
        for payment in payments
        for place, item in enumerate(payment.line_items)
    ]


@pytest.mark.parametrize("table", ["payments", "line_items"])
@pytest.mark.parametrize("rows", [1, 7, 250, 599, 600, 2**63])
async def test_batches_have_the_requested_size(client: PaymentsClient, table: TableName, rows: int) -> None:
    """Each batch but the last has `rows` rows, whatever the page size, and together they are the table."""
    batches = [batch async for batch in client.payments.list().arrow_batches(rows=rows, table=table)]
    whole = await client.payments.list().to_arrow(table=table)
    assert {batch.num_rows for batch in batches[:-1]} <= {rows}
    assert 0 < batches[-1].num_rows <= rows
    assert pyarrow.Table.from_batches(batches).equals(whole)


async def test_batches_arrive_during_the_walk(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Stopping after one batch neither waits for the whole list nor requests it."""
    walk = client.payments.list(page_size=10, concurrency=2)
    async with aclosing(walk.arrow_batches(rows=20)) as batches:
        first = await anext(batches)
    assert first.num_rows == 20
    assert len(sandbox.requests) < 12
    assert not walk.report.complete


async def test_a_stream_as_a_table(client: PaymentsClient) -> None:
    """Several channels make one table, of the payments that the stream returns."""
    listed = {payment.id async for payment in client.payments.stream(channel_ids=[1, 2])}
    table = await client.payments.stream(channel_ids=[1, 2]).to_arrow()
    assert set(table["id"].to_pylist()) == listed
    assert len(listed) == table.num_rows > 0


@pytest.mark.virtual_time
@pytest.mark.parametrize("table", ["payments", "line_items"])
async def test_an_empty_list_has_columns(client: PaymentsClient, table: TableName) -> None:
    """Where there is no payment, the table has no rows, and every column of its type."""
    full = await client.payments.list().to_arrow(table=table)
    none = await client.payments.list(customer_name="nobody of this name").to_arrow(table=table)
    assert none.num_rows == 0
    assert none.schema == full.schema


async def test_pandas_is_exact(sandbox: Sandbox, client: PaymentsClient) -> None:
    """In pandas, sums by group keep every digit, null is not a number, and times are aware."""
    sandbox.store.insert(total={"code": "USD", "value": WIDEST}, channelId=None)
    payments = await client.payments.list().collect()
    frame = await client.payments.list().to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    sums = frame.groupby("currency")["total"].sum()
    assert {name: sums[name] for name in sums.index} == _sums(payments)
    assert [None if value is pandas.NA else value for value in frame["channel_id"]] == [
        payment.channel_id for payment in payments
    ]
    assert [str(value) for value in frame["created_at"]] == [str(one.created_at) for one in payments]


async def test_polars_is_exact(sandbox: Sandbox, client: PaymentsClient) -> None:
    """In polars, sums by group keep every digit, and nested line items unfold into rows."""
    sandbox.store.insert(total={"code": "USD", "value": WIDEST})
    payments = await client.payments.list().collect()
    frame = await client.payments.list().to_polars()
    assert isinstance(frame, polars.DataFrame)
    sums: dict[Any, Any] = dict(frame.group_by("currency").agg(polars.col("total").sum()).iter_rows())
    assert sums == _sums(payments)
    items = (
        frame.select("id", "line_items").explode("line_items").unnest("line_items").drop_nulls("invoice_id")
    )
    flat = await client.payments.list().to_polars(table="line_items")
    assert items["invoice_id"].to_list() == flat.drop_nulls("invoice_id")["invoice_id"].to_list()


def _sums(payments: list[Payment]) -> dict[str, Decimal]:
    sums = dict[str, Decimal]()
    with localcontext(prec=60):
        for payment in payments:
            sums[payment.total.currency] = sums.get(payment.total.currency, Decimal(0)) + payment.total.amount
    return sums


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"total": {"code": "USD", "value": "0.0000000000001"}}, "total 0.0000000000001 of payment 601"),
        ({"total": {"code": "USD", "value": "1" + "0" * 26}}, "of payment 601 does not fit into a decimal"),
        ({"appliedStatus": 2**63}, "applied_status 9223372036854775808 of payment 601"),
        (
            {"lineItems": [{"invoiceId": 1, "amount": {"code": "USD", "value": "1e-13"}}]},
            "amount 0.0000000000001 of payment 601",
        ),
    ],
)
@pytest.mark.parametrize("table", ["payments", "line_items"])
async def test_numbers_that_do_not_fit_are_refused(
    sandbox: Sandbox, client: PaymentsClient, table: TableName, fields: dict[str, Any], message: str
) -> None:
    """A number that its column cannot hold exactly is refused, and the error names the payment."""
    sandbox.store.insert(**fields)
    with pytest.raises(ExportError, match=message):
        await client.payments.list().to_arrow(table=table)


async def test_unusual_values(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A status without a name, other scripts, a zero byte, exponents and unknown fields are all kept."""
    sandbox.store.insert(
        processingStatus=77, customerName="株\x00", total={"code": "USD", "value": "1.5E+3"}, fresh="x"
    )
    row = (await client.payments.list().to_arrow()).to_pylist()[-1]
    [model] = [one for one in await client.payments.list().collect() if one.id == 601]
    assert (row["processing_status"], row["processing_status_name"]) == (77, None)
    assert row["customer_name"] == to_dict(model)["customer_name"]
    assert row["total"] == 1500
    assert '"fresh":"x"' in row["extra"]


async def test_an_unreadable_amount_is_named(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A payment without a readable amount raises the same error as in a walk of models."""
    sandbox.store.insert(total={"code": "USD", "value": "many"})
    with pytest.raises(ResponseDecodeError, match="total"):
        await client.payments.list().to_arrow()


async def test_libraries_are_imported_in_other_threads(
    client: PaymentsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Importing pyarrow, pandas and polars, which takes seconds, does not block the event loop."""
    imported = set[tuple[str, bool]]()

    def library(name: str) -> Any:
        imported.add((name, threading.current_thread() is threading.main_thread()))
        return import_module(name)

    monkeypatch.setattr(arrow, "library", library)
    async with aclosing(client.payments.list().arrow_batches()) as batches:
        assert (await anext(batches)).num_rows == 600
    assert (await client.payments.list().to_arrow()).num_rows == 600
    assert len(await client.payments.list().to_pandas()) == 600
    assert len(await client.payments.list().to_polars()) == 600
    assert imported == {("pyarrow", False), ("pandas", False), ("polars", False)}


@pytest.mark.parametrize(
    ("method", "library", "extra"),
    [
        ("to_arrow", "pyarrow", "arrow"),
        ("to_pandas", "pandas", "pandas"),
        ("to_polars", "polars", "polars"),
        ("to_polars", "pyarrow", "arrow"),
    ],
)
async def test_a_missing_extra_is_named(
    sandbox: Sandbox,
    client: PaymentsClient,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    library: str,
    extra: str,
) -> None:
    """Without the library, one sentence says what to install, before any request is sent."""
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigurationError) as caught:
        await getattr(client.payments.list(), method)()
    assert str(caught.value) == (f"This table format needs {library}: pip install 'b2b-payments[{extra}]'.")
    assert not sandbox.requests


@pytest.mark.parametrize("given", [{"rows": 0}, {"rows": 2.5}, {"table": "invoices"}])
async def test_wrong_arguments_are_refused(client: PaymentsClient, given: dict[str, Any]) -> None:
    """Batches of no rows, and unknown tables, are refused at the call."""
    with pytest.raises(ConfigurationError, match=next(iter(given))):
        client.payments.list().arrow_batches(**given)
