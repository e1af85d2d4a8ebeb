"""Hostile answers: the reader returns something usable, or raises a documented error, and soon."""

from __future__ import annotations

import copy
import json
import pickle
import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b2b_payments import B2BPaymentsError, OrderBy, PaymentsClient, RetryPolicy, SortBy, StoreAuth, to_wire
from b2b_payments._converter import (
    structure,
    structure_list,
    structure_payment,
)
from b2b_payments._models import Channel, Payment, PaymentOperations, Transaction
from b2b_payments._protocol.answer import Answer, read_envelope, read_payment_id
from b2b_payments._protocol.json import MAX_LEVELS, decode, encode
from b2b_payments._protocol.limits import read_limits
from b2b_payments._protocol.listing import read_listing
from b2b_payments._protocol.request import Request
from b2b_payments._walk.join import Delivered, Join
from b2b_payments._walk.page import Order, keyed
from tests.support import examples, hostile
from tests.support.strategies import payments
from tests.support.virtual_time import run

EXAMPLES, EACH = 8, 100
"""800 bodies in all."""
PATIENCE = 5.0
"""CPU seconds allowed for one body: a hundred times what any needs."""

REQUEST = Request("payments.list", "GET", "/ip/payments")
BASE = "https://service.example/io"
ORDERS = [Order.of(sort, order) for sort in (SortBy.CREATED_AT, SortBy.TOTAL_AMOUNT) for order in OrderBy]


def use(models: Any) -> None:
    """Use models as callers do."""
    for model in models if isinstance(models, list) else [models]:
        wire = to_wire(model)
        json.dumps(wire)
        encode(wire)
        repr(model)
        hash(model)
        assert copy.deepcopy(model) == model
        assert pickle.loads(pickle.dumps(model)) == model  # noqa: S301


def as_list(answer: Answer) -> None:
    """Read an answer as a page of a walk, join it repeatedly, and read its rows."""
    listing = read_listing(REQUEST, answer, BASE, offset=10)
    for order in ORDERS:
        page = keyed(listing, order, limit=250, full_size=False)
        if not page.is_sorted:
            continue
        join = Join(order, Delivered(forgets=order.exact))
        for _ in range(3):
            join.offer(page)
    use([structure_payment(decode(row)) for row in listing.rows()])


def as_data(read: Callable[[Any], Any]) -> Callable[[Answer], None]:
    """Read an answer's data with one of the converter's readers."""
    return lambda answer: use(read(read_envelope(REQUEST, answer, BASE).data))


def failure(read: Callable[[Answer], object], answer: Answer) -> B2BPaymentsError | None:
    """Return the documented error that reading raises, or None."""
    try:
        read(answer)
    except B2BPaymentsError as error:
        return error
    return None


READINGS: list[Callable[[Answer], object]] = [
    as_list,
    as_data(structure_payment),
    as_data(partial(structure_list, Payment)),
    as_data(partial(structure_list, Transaction)),
    as_data(partial(structure_list, Channel)),
    as_data(partial(structure, PaymentOperations)),
    lambda answer: read_payment_id(read_envelope(REQUEST, answer, BASE)),
    lambda answer: read_limits(answer.headers, datetime.now(UTC)).pause,
]


@pytest.mark.slow
@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(payments, max_size=3), st.integers(0, 2**32))
def test_hostile_bodies(rows: list[dict[str, Any]], seed: int) -> None:
    """Each body, read in every way, results in usable models or in a documented error."""
    draw = random.Random(seed)
    corpus = (*hostile.BODIES, examples.listed(*rows), *map(examples.answered, rows))
    for _ in range(EACH):
        answer = hostile.answer(draw, corpus)
        begun = time.process_time()
        for read in READINGS:
            error = failure(read, answer)
            assert error is None or str(pickle.loads(pickle.dumps(error))) == str(error) != ""  # noqa: S301
        assert time.process_time() - begun < PATIENCE, answer.body[:200]


@pytest.mark.parametrize("nested", [b"[%b]", b'{"a":%b}', b'[[],%b,{"b":1}]', b'["]]]}}}[[[",%b]'])
def test_deepest_body_can_be_used(nested: bytes) -> None:
    """The deepest body that is read can be converted back, copied and pickled; one level more is refused."""
    body = b"[]"
    for _ in range(MAX_LEVELS - 2):
        body = nested.replace(b"%b", body)
    decode(b"[%b]" % body)
    with pytest.raises(B2BPaymentsError, match="nested too deeply"):
        decode(b"[[%b]]" % body)
    row = examples.SHOWN_PAYMENT | {"details": {"x": decode(body)}}
    use(structure_payment(row))


@pytest.mark.parametrize(
    "moment", [b"1E+999990", b'"1E+999990"', b"-1e99999", b'"1E+9999999999"', b"9" * 4_300]
)
@pytest.mark.parametrize("order", ORDERS[:2], ids=["ascending", "descending"])
def test_time_out_of_range_is_an_error_at_once(moment: bytes, order: Order) -> None:
    """A time with a million digits is not written out, neither by the walk nor by the converter."""
    row = encode(examples.LISTED_PAYMENT).replace(b"1618800393", moment).replace(b"1618803026", moment)
    answer = Answer(200, {}, b'{"code":200,"data":[%b]}' % row)
    begun = time.process_time()
    with pytest.raises(B2BPaymentsError, match="createdAt"):
        as_data(partial(structure_list, Payment))(answer)
    with suppress(B2BPaymentsError):
        keyed(read_listing(REQUEST, answer, BASE, offset=0), order, limit=250, full_size=False)
    assert time.process_time() - begun < PATIENCE


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    page_size=st.sampled_from([1, 2, 7, 50, 250]),
    concurrency=st.sampled_from([1, 2, 8]),
    sort_by=st.sampled_from([SortBy.CREATED_AT, SortBy.CREATED_AT, SortBy.UPDATED_AT, SortBy.TOTAL_AMOUNT]),
    order_by=st.sampled_from(OrderBy),
)
def test_walk_through_lies_ends(
    seed: int, page_size: int, concurrency: int, sort_by: SortBy, order_by: OrderBy
) -> None:
    """A service that repeats itself, promises a billion rows or names other offsets ends every walk, once."""
    liar = hostile.Liar(random.Random(seed))

    async def walk() -> list[int]:
        auth, retry = StoreAuth("store", "token"), RetryPolicy(attempts=1)
        async with PaymentsClient(
            auth, base_url="https://service.example", quota=None, retry=retry
        ) as client:
            client._transport.send = liar.send  # type: ignore[method-assign]
            listed = client.payments.list(
                page_size=page_size, concurrency=concurrency, sort_by=sort_by, order_by=order_by
            )
            ids: list[int] = []
            with suppress(B2BPaymentsError):
                async for page in listed.pages():
                    ids += [payment.id for payment in page.items]
            return ids

    ids = run(walk())
    assert len(ids) == len(set(ids)) <= liar.ids
