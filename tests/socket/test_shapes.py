"""The documented variants of the same data: all of them are read, and returned unchanged."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import pytest
from aiohttp import web

from b2b_payments import Fee, ResponseDecodeError, from_wire, to_wire
from b2b_payments._models import Channel, Payment
from b2b_payments.sandbox import Rules, Sandbox
from tests.support.clients import client_of


def free(**rules: Any) -> Rules:
    """Return rules without a quota."""
    return Rules(quota=False, **rules)


async def test_numeric_fees_are_read() -> None:
    """A walk over fees that are bare numbers returns their amounts, and each payment's raw data."""
    async with Sandbox(payments=300, rules=free(fees_as="numbers")) as sandbox, client_of(sandbox) as client:
        payments = await client.payments.list().collect()
        assert [to_wire(payment) for payment in payments] == list(sandbox.store.all_wire())
        fees = [fee for payment in payments for fee in payment.fees]
        assert len(fees) > 20
        assert {(fee.type, fee.description) for fee in fees} == {("", "")}
        assert all(isinstance(fee.amount, Decimal) for fee in fees)
        shown = next(payment for payment in payments if payment.fees)
        assert await client.payments.get(shown.id) == shown


async def test_mixed_fees_are_read() -> None:
    """Fees may be numbers or objects, even within one list."""
    async with Sandbox(payments=40, rules=free()) as sandbox, client_of(sandbox) as client:
        sandbox.store.update(7, fees=[2, {"type": "fixed", "amount": 0.25}, 1.5])
        payments = await client.payments.list().collect()
        found = next(payment for payment in payments if payment.id == 7)
        assert found.fees == (Fee(amount=2), Fee("fixed", amount="0.25"), Fee(amount="1.5"))
        assert to_wire(found) == sandbox.store.wire(7)


async def test_swapped_empties_are_read() -> None:
    """``[]`` for an empty object and ``{}`` for an empty list are empty, and returned unchanged."""
    async with (
        Sandbox(payments=300, rules=free(empties_as="swapped")) as sandbox,
        client_of(sandbox) as client,
    ):
        payments = await client.payments.list().collect()
        wire = list(sandbox.store.all_wire())
        assert [to_wire(payment) for payment in payments] == wire
        assert [payment.details for payment, row in zip(payments, wire, strict=True) if row["details"] == []]
        assert all(payment.details == {} or payment.details["memo"] is not None for payment in payments)
        assert all(isinstance(payment.fees, tuple) for payment in payments)


async def test_an_unreadable_object_names_its_request() -> None:
    """The error of an unreadable object names its endpoint and id, like that of one that is not JSON."""
    async with Sandbox(payments=3, rules=free()) as sandbox, client_of(sandbox) as client:
        sandbox.store.update(2, updatedAt="soon")
        with pytest.raises(ResponseDecodeError) as caught:
            await client.payments.get(2)
        assert str(caught.value).startswith("GET /ip/payments/2: $.data.updatedAt cannot be read: ")
        assert caught.value.paths == ["$.data.updatedAt"]
        assert len(sandbox.requests) == 1
        sandbox.answer_with(lambda _: web.json_response({"code": 200, "data": [{}], "meta": {}}))
        with pytest.raises(ResponseDecodeError, match=r"^GET /channels: \$\.data\[0\]\.id cannot be read"):
            await client.channels.list()


@pytest.mark.parametrize("times", ["digits", "number", "iso"])
@pytest.mark.parametrize("name", ["name", "channelName"])
@pytest.mark.parametrize("site", ["object", "text"])
async def test_channel_variants_are_read(
    times: Literal["digits", "number", "iso"],
    name: Literal["name", "channelName"],
    site: Literal["object", "text"],
) -> None:
    """Times as digits, numbers or ISO 8601, either name field, any site: the same channel."""
    usual = Sandbox(payments=0, rules=free())
    expected = [from_wire(Channel, channel) for channel in usual.store.channel_list()]
    rules = free(channel_times_as=times, channel_name=name, site_as=site)
    async with Sandbox(payments=0, rules=rules) as sandbox, client_of(sandbox) as client:
        channels = await client.channels.list()
        assert [to_wire(channel) for channel in channels] == sandbox.store.channel_list()
    assert [(one.name, one.created_at) for one in channels] == [
        (one.name, one.created_at) for one in expected
    ]
    assert all(one.name and one.created_at is not None for one in channels)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("2024-05-01T12:00:00Z", datetime(2024, 5, 1, 12, tzinfo=UTC)),
        ("2024-05-01T14:00:00+02:00", datetime(2024, 5, 1, 12, tzinfo=UTC)),
        ("2024-05-01T12:00:00.250Z", datetime(2024, 5, 1, 12, 0, 0, 250_000, tzinfo=UTC)),
        ("2024-05-01 12:00", datetime(2024, 5, 1, 12, tzinfo=UTC)),
        (1714564800, datetime(2024, 5, 1, 12, tzinfo=UTC)),
        ("", None),
    ],
)
def test_channel_time_formats(sent: object, read: datetime | None) -> None:
    """Each documented time format is the same instant, and is returned unchanged."""
    channel = from_wire(Channel, {"id": 1, "channelId": 1, "createdAt": sent, "platform": {"id": "new"}})
    assert channel.created_at == read
    assert channel.platform == ""
    assert to_wire(channel) == {"id": 1, "channelId": 1, "createdAt": sent, "platform": {"id": "new"}}


def test_changed_fee_is_an_object() -> None:
    """A bare fee is written back as its number; one made by a caller is an object."""
    sandbox = Sandbox(payments=1, rules=free())
    sandbox.store.update(1, fees=[1.5])
    payment = from_wire(Payment, sandbox.store.wire(1))
    assert to_wire(payment)["fees"] == [1.5]
    assert to_wire(payment.fees[0]) == {"amount": 1.5}
