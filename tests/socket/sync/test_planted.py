"""What other users with write access could plant in a database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from b2b_payments import PaymentsClient
from b2b_payments.export import ExportError
from b2b_payments.sandbox import Sandbox
from b2b_payments.sync import PostgresStore, Store, sync
from tests.support.synced import connected, held_in, store_in, versions_of

_BODY = "LANGUAGE plpgsql AS $$ BEGIN INSERT INTO planted.ran VALUES ('{0}'); RETURN {1}; END $$"
_ALWAYS_FALSE = ("int8", "int4"), ("int8", "numeric"), ("name", "text"), ('"char"', "text"), ("int2", "int4")


def _planted() -> list[str]:
    """Return SQL for functions and operators that match a sync's calls better than PostgreSQL's own."""
    functions = {
        "times(numeric, int4)": ("numeric", "$1 OPERATOR(pg_catalog.*) $2::numeric"),
        "unnest(int8[])": ("int8", "1"),
        "pg_advisory_lock(int8)": ("text", "'locked'"),
        "pg_advisory_lock(numeric)": ("text", "'locked'"),
        "format_type(oid, int4)": ("text", "'text'"),
        "max(int8)": ("int8", "$1"),
    }
    functions |= {f"same({one}, {other})": ("bool", "true") for one, other in _ALWAYS_FALSE}
    return [
        "CREATE SCHEMA planted",
        "CREATE TABLE planted.ran (what text)",
        *(
            f"CREATE FUNCTION planted.{name} RETURNS {type_} {_BODY.format(name, result)}"
            for name, (type_, result) in functions.items()
        ),
        "CREATE OPERATOR planted.* (LEFTARG = numeric, RIGHTARG = int4, FUNCTION = planted.times)",
        *(
            f"CREATE OPERATOR planted.{sign} (LEFTARG = {one}, RIGHTARG = {other}, FUNCTION = planted.same)"
            for one, other in _ALWAYS_FALSE
            for sign in ("=", "<=", ">")
        ),
    ]


async def test_functions(postgres: str, sandbox: Sandbox, client: PaymentsClient, tmp_path: Path) -> None:
    """A sync calls no function or operator that others put into a schema of the search path."""
    plain = store_in("postgres", tmp_path, postgres)
    assert isinstance(plain, PostgresStore)
    with psycopg.connect(postgres, autocommit=True) as connection:
        for statement in _planted():
            connection.execute(statement)
        address = psycopg.conninfo.make_conninfo(postgres, options="-c search_path=planted")
        copy = PostgresStore(address, schema=plain.place.schema)
        await sync(client, copy)
        sandbox.store.update(3, payerName="other")
        sandbox.store.delete(4)
        await sync(client, copy, sweep=True)
        assert connection.execute("SELECT DISTINCT what FROM planted.ran").fetchall() == []
    assert held_in(copy) == versions_of(sandbox.store)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_state(kind: str, postgres: str, client: PaymentsClient, tmp_path: Path) -> None:
    """An invalid state is refused with one sentence."""
    copy = store_in(kind, tmp_path, postgres)
    assert isinstance(copy, Store)
    await sync(client, copy)
    with connected(copy) as db:
        state = msgspec.json.decode(db.execute("SELECT state FROM b2b_payments_sync").fetchone()[0])
    planted: list[Any] = [
        {**state, name: value}
        for name, value in [
            ("changes", 5),
            ("changes", {}),
            ("changes", [1]),
            ("changes", {**state["changes"], "watermark": "x"}),
            ("reading", 5),
            ("reading", {"watermark": None, "walk": 5, "begun": None}),
            ("reading", {"watermark": None, "walk": {}, "begun": "x"}),
            ("reading", {"watermark": None}),
            ("reading", {"watermark": "2024-01-01T00:00:00", "walk": None, "begun": None}),
        ]
    ]
    planted.append({name: value for name, value in state.items() if name != "store_hash"})
    texts = [*map(msgspec.json.encode, [[], None, 5, *planted]), b"[" * 100_000]
    marker = "%s" if kind == "postgres" else "?"
    for text in texts:
        with connected(copy) as db:
            db.execute(f"UPDATE b2b_payments_sync SET state = {marker}", [text.decode()])  # noqa: S608
            db.commit()
        with pytest.raises(ExportError, match=r"sync state of .* is damaged"):
            await sync(client, copy)
