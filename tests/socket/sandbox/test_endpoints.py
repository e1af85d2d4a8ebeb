"""Every endpoint of the sandbox, over a raw session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import attrs
import pytest
import pytest_asyncio

from b2b_payments.sandbox import Rules, Sandbox
from b2b_payments.sandbox._data import CARD, OFFLINE, ORDER

NEW: dict[str, Any] = {
    "lineItems": [{"invoiceId": 13, "amount": "20.00"}, {"invoiceId": 14, "amount": "0.5"}],
    "currency": "USD",
    "details": {"memo": "Test"},
    "customerId": "95000",
}


@pytest_asyncio.fixture(name="sandbox")
async def _sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(payments=300) as sandbox:
        yield sandbox


async def _call(sandbox: Sandbox, method: str, path: str, **about: Any) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession(headers=sandbox.headers) as session,
        session.request(method, sandbox.base_url + path, **about) as response,
    ):
        assert response.headers["X-Request-Id"]
        return response.status, await response.json(content_type=None)


async def _data(sandbox: Sandbox, method: str, path: str, **about: Any) -> Any:
    status, body = await _call(sandbox, method, path, **about)
    assert (status, body["code"], body["meta"]["message"]) == (200, 200, "SUCCESS")
    return body["data"]


def _find(sandbox: Sandbox, **fields: Any) -> int:
    """Return the id of a payment with these fields."""
    return next(
        int(row["id"])
        for row in sandbox.store.all_wire()
        if all(row[name] == value for name, value in fields.items())
    )


async def test_list(sandbox: Sandbox) -> None:
    """The list returns the requested rows and their position."""
    query = {"offset": "20", "limit": "30", "sortBy": "createdAt", "orderBy": "ASC"}
    status, body = await _call(sandbox, "GET", "/ip/payments", params=query)
    assert status == 200
    assert body["meta"]["pagination"] == {"totalCount": 300, "offset": 20, "limit": 30}
    assert body["data"] == list(sandbox.store.all_wire())[20:50]
    assert sandbox.requests[-1].query == list(query.items())


async def test_list_refuses_wrong_values(sandbox: Sandbox) -> None:
    """An invalid parameter is answered with 422 and its name."""
    status, body = await _call(sandbox, "GET", "/ip/payments", params={"sortBy": "id"})
    assert (status, body["code"], list(body["data"])) == (422, 422, ["sortBy"])


async def test_limits(sandbox: Sandbox) -> None:
    """A limit above the maximum is clamped or refused, and echoed as the rules say."""
    seen = []
    for rules in (
        Rules(max_limit=100),
        Rules(max_limit=100, echo="asked"),
        Rules(max_limit=100, echo=None, total_count="absent"),
    ):
        sandbox.rules = rules
        _, body = await _call(sandbox, "GET", "/ip/payments?limit=101")
        assert len(body["data"]) == 100
        seen.append(body["meta"]["pagination"])
    assert seen == [
        {"totalCount": 300, "offset": 0, "limit": 100},
        {"totalCount": 300, "offset": 0, "limit": 101},
        {"offset": 0},
    ]
    sandbox.rules = Rules(max_limit=100, over_limit="refuse")
    assert (await _call(sandbox, "GET", "/ip/payments?limit=101"))[0] == 413
    assert (await _call(sandbox, "GET", "/ip/payments?limit=100"))[0] == 200


async def test_channel_ids(sandbox: Sandbox) -> None:
    """Only the encodings that the rules name are accepted; others return rows of every channel."""
    _, body = await _call(sandbox, "GET", "/ip/payments?limit=250&channelIds=1&channelIds=2")
    assert {row["channelId"] for row in body["data"]} == {"1", "2"}
    _, body = await _call(sandbox, "GET", "/ip/payments?limit=250&channelIds[]=1,2")
    assert {row["channelId"] for row in body["data"]} == {"1", "2", "3"}
    sandbox.rules = Rules(channel_encoding=("brackets-comma",))
    _, body = await _call(sandbox, "GET", "/ip/payments?limit=250&channelIds%5B%5D=1%2C2")
    assert {row["channelId"] for row in body["data"]} == {"1", "2"}


@pytest.mark.parametrize(
    ("status", "data"),
    [(422, {"channelIds": ["Not a valid list."]}), (400, {"errMsg": "A parameter is not valid."})],
)
async def test_refused_channel_ids(sandbox: Sandbox, status: Any, data: dict[str, Any]) -> None:
    """Other encodings of `channelIds` are refused if the rules say so, and the known ones are accepted."""
    sandbox.rules = Rules(channel_encoding="comma", other_channel_encodings=status)
    for query in ("channelIds=1&channelIds=2", "channelIds[]=1"):
        answered, body = await _call(sandbox, "GET", f"/ip/payments?{query}")
        assert (answered, body["data"]) == (status, data)
    for query in ("channelIds=1,2", "channelIds=1", "channelIds=", ""):
        assert (await _call(sandbox, "GET", f"/ip/payments?{query}"))[0] == 200


async def test_channel_ids_that_find_nothing(sandbox: Sandbox) -> None:
    """Other encodings of `channelIds` match no payment if the rules say so."""
    sandbox.rules = Rules(channel_encoding="comma", other_channel_encodings="nothing")
    for query, found in (("channelIds=1&channelIds=2", False), ("channelIds=1,2", True), ("", True)):
        _, body = await _call(sandbox, "GET", f"/ip/payments?{query}")
        assert bool(body["data"]) is bool(body["meta"]["pagination"]["totalCount"]) is found


@pytest.mark.parametrize("refusal", [400, 404, 422])
async def test_unknown_channels(sandbox: Sandbox, refusal: Any) -> None:
    """A channel that the store does not have matches no payment, or is refused if the rules say so."""
    status, body = await _call(sandbox, "GET", "/ip/payments?channelIds=9")
    assert (status, body["data"]) == (200, [])
    sandbox.rules = Rules(unknown_channels=refusal)
    for query, expected in (("channelIds=1&channelIds=9", refusal), ("channelIds=1", 200), ("", 200)):
        assert (await _call(sandbox, "GET", f"/ip/payments?{query}"))[0] == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("null", {"channelId": None, "channelName": None}),
        ("empty", {"channelId": "", "channelName": ""}),
        ("absent", {}),
    ],
)
async def test_payments_need_not_name_their_channel(
    sandbox: Sandbox, written: Any, expected: dict[str, Any]
) -> None:
    """Payments leave out their channel as the rules say, and are filtered by it all the same."""
    wanted = [one for one in sandbox.store.ids() if sandbox.store.channel(one) == 2]
    sandbox.rules = Rules(payment_channels=written)
    rows = await _data(sandbox, "GET", "/ip/payments?limit=250&channelIds=2&orderBy=ASC")
    assert [row["id"] for row in rows] == wanted
    row = await _data(sandbox, "GET", f"/ip/payments/{wanted[0]}")
    for one in (rows[0], row):
        assert {name: one[name] for name in ("channelId", "channelName") if name in one} == expected


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_other_successes(sandbox: Sandbox, method: Any) -> None:
    """A success has the status, code and body of the rules, for one method or for all."""
    sandbox.rules = Rules(success_status={method: 202})
    status, body = await _call(sandbox, method, "/ip/payments/1")
    assert (status, body["code"], body["data"]["id"]) == (202, 202, 1)
    sandbox.rules = Rules(success_status=201, success_code=200)
    status, body = await _call(sandbox, method, "/ip/payments/2")
    assert (status, body["code"], body["data"]["id"]) == (201, 200, 2)
    for payment_id, rules, expected in (
        (3, Rules(success_status=204), 204),
        (4, Rules(without_body=(method,)), 200),
    ):
        sandbox.rules = rules
        url = f"{sandbox.base_url}/ip/payments/{payment_id}"
        async with (
            aiohttp.ClientSession(headers=sandbox.headers) as session,
            session.request(method, url) as response,
        ):
            assert (response.status, await response.read()) == (expected, b"")
    assert ({1, 2, 3, 4} <= set(sandbox.store.ids())) is (method == "GET")


async def test_get(sandbox: Sandbox) -> None:
    """A payment can be read by its id."""
    assert await _data(sandbox, "GET", "/ip/payments/7") == sandbox.store.wire(7)


async def test_ids_as_strings(sandbox: Sandbox) -> None:
    """Ids are strings in every answer if the rules say so."""
    sandbox.rules = Rules(ids_as="string")
    row = await _data(sandbox, "GET", "/ip/payments/7")
    assert row["id"] == "7"
    assert {type(line[name]) for line in row["lineItems"] for name in ("paymentId", "invoiceId")} == {str}
    assert (await _data(sandbox, "GET", "/ip/payments?limit=1"))[0]["id"] == "300"
    assert await _data(sandbox, "POST", "/ip/payments/offline", json=NEW) == {"paymentId": "301"}
    assert await _data(sandbox, "PUT", "/ip/payments/offline/301", json=NEW) == {"paymentId": "301"}
    assert await _data(sandbox, "DELETE", "/ip/payments/301") == {"id": "301"}


async def test_delete(sandbox: Sandbox) -> None:
    """A deleted payment is gone, and deleting it again is answered with 404."""
    assert await _data(sandbox, "DELETE", "/ip/payments/7") == {"id": 7}
    assert 7 not in sandbox.store
    status, body = await _call(sandbox, "DELETE", "/ip/payments/7")
    assert (status, body["code"], body["data"]["errMsg"]) == (404, 404, "Payment not found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/ip/payments/999"),
        ("GET", "/ip/payments/999/operations"),
        ("POST", "/ip/payments/999/operations"),
        ("PUT", "/ip/payments/999/processing-status"),
        ("GET", "/ip/payments/999/transactions"),
        ("PUT", "/ip/payments/offline/999"),
    ],
)
async def test_missing(sandbox: Sandbox, method: str, path: str) -> None:
    """Every request for a payment that does not exist is answered with 404."""
    status, body = await _call(sandbox, method, path, json={})
    assert (status, body["code"]) == (404, 404)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/nowhere"), ("PATCH", "/ip/payments/7"), ("GET", "/ip/payments/x")]
)
async def test_unknown_path(sandbox: Sandbox, method: str, path: str) -> None:
    """An unknown path is answered by a gateway, in HTML."""
    async with (
        aiohttp.ClientSession(headers=sandbox.headers) as session,
        session.request(method, sandbox.base_url + path) as response,
    ):
        assert (response.status, response.content_type) == (404, "text/html")
        assert "X-Requests-Remaining" not in response.headers


async def test_operations(sandbox: Sandbox) -> None:
    """The allowed operations and statuses are those of the payment's row."""
    row = sandbox.store.wire(7)
    assert await _data(sandbox, "GET", "/ip/payments/7/operations") == {
        "allowedOperations": row["allowedOperations"],
        "allowedStatuses": row["allowedStatuses"],
    }


async def test_apply_and_revert(sandbox: Sandbox) -> None:
    """Applying and reverting alternate, and the allowed operations change accordingly."""
    payment = _find(sandbox, moduleName=ORDER, appliedStatus=0, allowedOperations=[0, 2])
    path = f"/ip/payments/{payment}/operations"
    states = []
    for code in (0, 0, 1, 1, 2, 3):
        status, _ = await _call(sandbox, "POST", path, json={"operationCode": code})
        row = sandbox.store.wire(payment)
        states.append((status, row["appliedStatus"], row["allowedOperations"]))
    assert states == [
        (200, 1, [1, 2]),
        (400, 1, [1, 2]),
        (200, 0, [0, 2]),
        (400, 0, [0, 2]),
        (200, 0, [0, 2]),
        (400, 0, [0, 2]),
    ]


async def test_refused_operation(sandbox: Sandbox) -> None:
    """A refused operation has a useful message and a generic title."""
    payment = _find(sandbox, processingStatus=0)
    status, body = await _call(
        sandbox, "POST", f"/ip/payments/{payment}/operations", json={"operationCode": 0}
    )
    assert status == body["code"] == 400
    assert "not allowed" in body["data"]["errMsg"]
    assert body["meta"]["message"] == "Not Found Error"


@pytest.mark.parametrize(
    "body", [{}, {"operationCode": 4}, {"operationCode": True}, [], {"operationCode": "x"}]
)
async def test_operation_code_is_checked(sandbox: Sandbox, body: object) -> None:
    """An undocumented operation is answered with 422."""
    assert (await _call(sandbox, "POST", "/ip/payments/7/operations", json=body))[0] == 422


async def test_processing_status(sandbox: Sandbox) -> None:
    """A processing status is set if the payment allows it."""
    payment = _find(sandbox, moduleName=OFFLINE, processingStatus=0)
    path = f"/ip/payments/{payment}/processing-status"
    assert await _data(sandbox, "PUT", path, json={"processingStatus": 4}) == {"id": payment}
    row = sandbox.store.wire(payment)
    assert (row["processingStatus"], row["updatedAt"], row["allowedOperations"]) == (
        4,
        sandbox.store.clock,
        [0],
    )
    assert (await _call(sandbox, "PUT", path, json={"processingStatus": 0}))[0] == 400
    assert (await _call(sandbox, "PUT", path, json={"processingStatus": 5}))[0] == 422
    card = _find(sandbox, moduleName=CARD)
    assert (
        await _call(sandbox, "PUT", f"/ip/payments/{card}/processing-status", json={"processingStatus": 1})
    )[0] == 400


async def test_transactions(sandbox: Sandbox) -> None:
    """The transactions are those of the payment's moduleData."""
    card = _find(sandbox, moduleName=CARD)
    found = await _data(sandbox, "GET", f"/ip/payments/{card}/transactions")
    assert found == sandbox.store.wire(card)["moduleData"]["transactions"]
    assert found[0]["type"] == "CreditCardTransaction"


async def test_create_offline(sandbox: Sandbox) -> None:
    """A created payment is the newest, with the documented defaults for missing fields."""
    assert await _data(sandbox, "POST", "/ip/payments/offline", json=NEW) == {"paymentId": 301}
    row = sandbox.store.wire(301)
    assert sandbox.store.ids()[-1] == 301
    assert row["total"] == {"code": "USD", "value": "20.5000"}
    assert row["lineItems"][0] == {
        "paymentId": 301,
        "invoiceId": 13,
        "invoiceNumber": "INV-000013",
        "amount": {"code": "USD", "value": "20.0000"},
    }
    assert (row["processingStatus"], row["fundingStatus"], row["appliedStatus"]) == (3, 2, 0)
    assert (row["payerName"], row["payerCustomerId"]) == ("Store offline payment", "95000")
    assert (row["moduleName"], row["channelId"], row["customerName"]) == (OFFLINE, "1", "Hannah's Hardware")
    assert (row["details"], row["externalId"]) == ({"memo": "Test"}, None)
    assert sandbox.requests[-1].body == NEW


async def test_create_offline_with_everything(sandbox: Sandbox) -> None:
    """Every documented field of an offline payment is stored as it was sent."""
    extra = {
        "externalId": "ERP-1",
        "externalCustomerId": "C1",
        "payerName": "Zoë",
        "payerCustomerId": "77",
        "processingStatus": 1,
        "channelId": 2,
        "fundingStatus": "3",
        "customerId": "no number",
    }
    await _data(sandbox, "POST", "/ip/payments/offline", json=NEW | extra)
    row = sandbox.store.wire(301)
    expected = extra | {"channelId": "2", "fundingStatus": 3, "customerName": ""}
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lineItems", []),
        ("lineItems", None),
        ("lineItems", [{"invoiceId": "13", "amount": "1"}]),
        ("lineItems", [{"invoiceId": 13, "amount": 20.0}]),
        ("lineItems", [{"invoiceId": 13, "amount": "NaN"}]),
        ("lineItems", [{"invoiceId": 13, "amount": "x"}]),
        ("lineItems", [{"invoiceId": 13, "amount": "0.00001"}]),
        ("lineItems", [13]),
        ("currency", "usd"),
        ("details", "memo"),
        ("customerId", 113),
        ("customerId", ""),
        ("externalId", None),
        ("processingStatus", 0),
        ("fundingStatus", 4),
        ("channelId", 9),
        ("channelId", "1"),
        ("lineItems", [{"invoiceId": 13, "amount": "-1"}]),
    ],
)
async def test_create_offline_is_checked(sandbox: Sandbox, name: str, value: object) -> None:
    """An invalid field is answered with 422 and its name, and nothing is created."""
    status, body = await _call(sandbox, "POST", "/ip/payments/offline", json=NEW | {name: value})
    assert (status, list(body["data"])) == (422, [name])
    assert all(isinstance(text, str) for text in body["data"][name])
    assert sandbox.store.payments == 300


async def test_create_offline_required_fields(sandbox: Sandbox) -> None:
    """Every missing required field is named; a body that is not an object is refused."""
    _, body = await _call(sandbox, "POST", "/ip/payments/offline", json={"unknown": 1})
    assert set(body["data"]) == {"lineItems", "currency", "details", "customerId"}
    assert (await _call(sandbox, "POST", "/ip/payments/offline", json=[]))[0] == 422
    assert (await _call(sandbox, "POST", "/ip/payments/offline"))[0] == 422
    assert (await _call(sandbox, "POST", "/ip/payments/offline", data=b"{no json"))[0] == 400
    assert sandbox.requests[-1].body is None


async def test_update_offline(sandbox: Sandbox) -> None:
    """An update replaces the payment's fields, but not its position, channel and applied status."""
    payment = _find(sandbox, moduleName=OFFLINE, appliedStatus=1)
    before = sandbox.store.wire(payment)
    path = f"/ip/payments/offline/{payment}"
    assert await _data(sandbox, "PUT", path, json=NEW | {"fundingStatus": 0}) == {"paymentId": payment}
    row = sandbox.store.wire(payment)
    kept = ("id", "createdAt", "channelId", "appliedStatus", "bcId")
    assert [row[name] for name in kept] == [before[name] for name in kept]
    assert (row["fundingStatus"], row["total"]["value"], row["allowedOperations"]) == (0, "20.5000", [1])
    assert row["lineItems"][0]["paymentId"] == payment
    order = _find(sandbox, moduleName=ORDER)
    assert (await _call(sandbox, "PUT", f"/ip/payments/offline/{order}", json=NEW))[0] == 400


async def test_channels(sandbox: Sandbox) -> None:
    """Channels have both ids, and their times as strings."""
    channels = await _data(sandbox, "GET", "/channels")
    assert [channel["channelId"] for channel in channels] == [1, 2, 3]
    assert all(isinstance(channel[name], str) for channel in channels for name in ("createdAt", "updatedAt"))


async def test_channel(sandbox: Sandbox) -> None:
    """A channel is found by BigCommerce's id, not by B2B Edition's own."""
    for channel in sandbox.store.channel_list():
        assert await _data(sandbox, "GET", f"/channels/{channel['channelId']}") == channel
        assert (await _call(sandbox, "GET", f"/channels/{channel['id']}"))[0] == 404
    sandbox.rules = Rules(multi_storefront=False, single_storefront_status=403)
    assert (await _call(sandbox, "GET", "/channels/1"))[0] == 403


async def test_content_type(sandbox: Sandbox) -> None:
    """If the rules say so, a request without the JSON content type is answered with 415."""
    sandbox.rules = Rules(content_type_required=True)
    assert (await _call(sandbox, "GET", "/channels"))[0] == 415
    assert (await _call(sandbox, "POST", "/ip/payments/offline", json=NEW))[0] == 200


@pytest.mark.parametrize("status", [400, 422])
async def test_nested_field_errors(sandbox: Sandbox, status: Any) -> None:
    """If the rules say so, invalid fields are named in snake_case, and those of line items one by one."""
    sandbox.rules = Rules(field_errors="nested", field_errors_status=status)
    lines = [{"invoiceId": 13, "amount": "1"}, {"invoiceId": 0, "amount": "x"}, 7]
    wrong = NEW | {"lineItems": lines, "customerId": ""}
    answered, body = await _call(sandbox, "POST", "/ip/payments/offline", json=wrong)
    assert (answered, body["code"]) == (status, status)
    assert set(body["data"]) == {"line_items", "customer_id"}
    good, bad, no_line = body["data"]["line_items"]
    assert (good, set(bad)) == ({}, {"invoice_id", "amount"})
    assert no_line == ["Must be an object."]
    _, body = await _call(sandbox, "POST", "/ip/payments/offline", json=NEW | {"lineItems": []})
    assert isinstance(body["data"]["line_items"][0], str)


async def test_single_storefront(sandbox: Sandbox) -> None:
    """A store without multi-storefront answers with an error, 422 or 403."""
    sandbox.rules = Rules(multi_storefront=False)
    status, body = await _call(sandbox, "GET", "/channels")
    assert (status, body["data"]["errMsg"]) == (422, "Multi storefront is not enabled")
    sandbox.rules = attrs.evolve(sandbox.rules, single_storefront_status=403)
    status, body = await _call(sandbox, "GET", "/channels")
    assert (status, body) == (403, {"code": 403, "message": "Multi storefront is not enabled"})
