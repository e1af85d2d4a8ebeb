"""What service code needs of a client: other options, any endpoint, start-up hooks, health checks."""

from __future__ import annotations

import asyncio
import gc
import pickle
from decimal import Decimal
from typing import Any

import anyio
import attrs
import pytest
from aiohttp import web

from b2b_payments import (
    AuthenticationError,
    ConfigurationError,
    NotFoundError,
    OutcomeUnknownError,
    PaymentsClient,
    Quota,
    RateLimitError,
    RequestTimeoutError,
    Response,
    RetryPolicy,
    ServerError,
    StoreAuth,
    TransportError,
    ValidationError,
)
from b2b_payments.events import Event, RequestEnded
from b2b_payments.sandbox import Fault, Rules, Sandbox, SeenRequest
from tests.support.clients import NEVER, QUICK, client_of


async def test_other_options_apply_to_the_other_client_only(sandbox: Sandbox, client: PaymentsClient) -> None:
    """`with_options` returns a client with its own retries; the first one is unchanged."""
    sandbox.order(Fault.ERROR_500, times=2, methods=["GET"])
    with pytest.raises(ServerError):
        await client.with_options(retry=NEVER).payments.get(7)
    assert (await client.payments.get(7)).id == 7
    sandbox.order(Fault.HANG, share=1)
    for options in ({"deadline": 0.01}, {"timeout": 0.01, "retry": NEVER}):
        with pytest.raises(RequestTimeoutError):
            await client.with_options(**options).payments.get(7)
        with pytest.raises(RequestTimeoutError):
            await client.with_options(**options).payments.list().collect()
    assert (client._caller.timeout, client._caller.deadline, client._caller.retry) == (5.0, None, QUICK)


async def test_omitted_options_are_kept(client: PaymentsClient) -> None:
    """Options accumulate over several `with_options`, and None removes a deadline."""
    other = client.with_options(deadline=3).with_options(timeout=2)
    assert (other._caller.timeout, other._caller.deadline, other._caller.retry) == (2.0, 3.0, QUICK)
    assert other.with_options(deadline=None)._caller.deadline is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"timeout": 0}, "timeout must be seconds"),
        ({"timeout": None}, "timeout must be seconds"),
        ({"deadline": "3"}, "deadline must be seconds"),
        ({"retry": 3}, "retry is int; give a RetryPolicy"),
    ],
)
async def test_invalid_options_are_refused(
    client: PaymentsClient, options: dict[str, Any], says: str
) -> None:
    """`with_options` refuses what the constructor refuses."""
    with pytest.raises(ConfigurationError, match=says):
        client.with_options(**options)
    unknown: dict[str, Any] = {"quota": None}
    with pytest.raises(TypeError):
        client.with_options(**unknown)


async def test_clients_share_session_quota_and_learned_limits(sandbox: Sandbox) -> None:
    """The other client has the same quota and session, and is closed with the first."""
    quota = Quota(2, 60, margin=0)
    async with client_of(sandbox, quota=quota) as client:
        other = client.with_options(deadline=0.05)
        await client.payments.get(1)
        await other.payments.get(2)
        with pytest.raises(RequestTimeoutError, match="waiting"):
            await other.payments.get(3)
        assert other._caller.recovery is client._caller.recovery
        assert other._caller.answered is client._caller.answered
        assert other._walker.learned is client._walker.learned
        assert other._writes.known is client._writes.known
    with pytest.raises(ConfigurationError, match="The client is not open"):
        await other.payments.get(1)


async def test_other_client_needs_no_closing(sandbox: Sandbox) -> None:
    """Closing or deleting the other client leaves the first open; it cannot be opened alone."""
    client = client_of(sandbox)
    with pytest.raises(ConfigurationError, match="The client is not open"):
        await client.with_options(deadline=1).open()
    async with client:
        async with client.with_options(deadline=1) as other:
            assert (await other.payments.get(1)).id == 1
        await other.aclose()
        del other
        gc.collect()
        assert (await client.payments.get(1)).id == 1


async def test_open_and_aclose_are_what_async_with_does(sandbox: Sandbox) -> None:
    """A client is opened by a start-up hook in one task, and closed by a shutdown hook in another."""
    client = client_of(sandbox)
    assert await asyncio.create_task(client.open()) is client
    with pytest.raises(ConfigurationError, match="open already"):
        await client.open()
    assert (await client.payments.get(1)).id == 1
    await asyncio.create_task(client.aclose())
    with pytest.raises(ConfigurationError, match="was closed; make a new one"):
        await client.open()


async def test_request_reaches_any_endpoint(sandbox: Sandbox, client: PaymentsClient) -> None:
    """`request` sends its arguments with the credential, and returns the whole answer."""
    params = {"limit": 2, "sortBy": "createdAt", "orderBy": "ASC", "channelIds": [1, 2], "q": "ä b&c"}
    answer = await client.request("get", "/ip/payments", params=params)
    (seen,) = sandbox.requests
    assert seen.query == [
        ("limit", "2"),
        ("sortBy", "createdAt"),
        ("orderBy", "ASC"),
        *(("channelIds", "1"), ("channelIds", "2"), ("q", "ä b&c")),
    ]
    assert (answer.status, answer.data) == (200, [])
    assert answer.meta["pagination"] == {"totalCount": 0, "offset": 0, "limit": 2}
    assert answer.headers["x-requests-REMAINING"] == "149 times"
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.request_id == answer.headers["X-Request-Id"]
    assert answer.request_id is not None
    body = {"operationCode": 0}
    sandbox.store.update(7, allowedOperations=[0])
    assert (await client.request("POST", "/ip/payments/7/operations", json=body)).data == {"id": 7}
    assert sandbox.requests[-1].body == body


async def test_repr_of_an_answer_is_safe_to_log(sandbox: Sandbox, client: PaymentsClient) -> None:
    """An answer's repr has no data and no headers; neither has cookies or our own credential."""
    token = str(sandbox.auth.access_token)

    def answer(_: SeenRequest) -> web.Response:
        headers = {"Set-Cookie": "session=1", "X-Echo": f"token {token}", "X-Long": "x" * 5_000}
        body = {"code": 200, "data": {"total": Decimal("1.10")}, "meta": {}}
        return web.json_response(body | {"data": {"memo": "private"}}, headers=headers)

    sandbox.answer_with(answer)
    answered = await client.request("GET", "/channels")
    assert "private" not in repr(answered)
    assert "Set-Cookie" not in answered.headers
    assert token not in str(dict(answered.headers))
    assert 2_000 <= len(answered.headers["X-Long"]) < 5_000
    assert answered.request_id is None
    again: Response = pickle.loads(pickle.dumps(answered))  # noqa: S301
    assert again == answered


async def test_request_is_retried_like_any_call(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A GET and a PUT are sent again after a failure, a POST only if it did not arrive."""
    sandbox.rules = attrs.evolve(sandbox.rules, refusal_wait=0.001)
    for fault in (Fault.ERROR_503, Fault.RATE_LIMITED):
        sandbox.order(fault, times=1)
        assert (await client.request("GET", "/ip/payments/7")).data["id"] == 7
    sandbox.order(Fault.RATE_LIMITED, times=1)
    sandbox.store.update(7, allowedOperations=[0], allowedStatuses=["1"])
    await client.request("POST", "/ip/payments/7/operations", json={"operationCode": 0})
    sandbox.order(Fault.ERROR_500_AFTER, times=1)
    await client.request("PUT", "/ip/payments/7/processing-status", json={"processingStatus": 1})
    assert [seen.method for seen in sandbox.requests] == [*["GET"] * 4, "POST", "POST", "PUT", "PUT"]


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_outcome_of_an_unanswered_write_is_unknown(
    sandbox: Sandbox, client: PaymentsClient, method: str
) -> None:
    """If no answer shows a write's outcome, the error says so, and it cannot be settled."""
    sandbox.order(Fault.RESET_BEFORE, times=1)
    with pytest.raises(
        OutcomeUnknownError, match=f"{method} /invoices/7/pay was sent, and whether"
    ) as caught:
        await client.request(method, "/invoices/7/pay", json={})
    with pytest.raises(ConfigurationError, match=r"client\.request\(\) cannot be checked"):
        await client.payments.settle(caught.value)
    assert sandbox.request_count == 1


async def test_cancelled_write_notes_what_was_sent(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A write cancelled after it was sent has a note; a read has none."""
    sandbox.order(Fault.HANG, share=1)
    for method, noted in (("POST", True), ("GET", False)):
        arrived = anyio.Event()

        def note(_: SeenRequest, arrived: anyio.Event = arrived) -> None:
            arrived.set()

        sandbox.answer_with(note)
        asking = asyncio.ensure_future(client.request(method, "/channels"))
        await arrived.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await asking
        assert hasattr(caught.value, "__notes__") is noted


async def test_errors_are_those_of_any_call(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A refusal is the error of its status, with the request id."""
    with pytest.raises(NotFoundError) as caught:
        await client.request("GET", "/ip/payments/999")
    assert caught.value.request_id is not None
    with pytest.raises(ValidationError):
        await client.request("POST", "/ip/payments/offline", json={"currency": "USD"})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("FETCH", "/channels"), "method 'FETCH' is unknown"),
        ((None, "/channels"), "method None is unknown"),
        *(
            (("GET", path), "is invalid: use one below the base URL")
            for path in (
                *("channels", "https://elsewhere.test/", "//elsewhere.test/x", "/ip//payments", "/a/../../b"),
                *(
                    "/%2e%2e/b",
                    "/a/.",
                    "/a?b=1",
                    "/a#b",
                    "/a b",
                    "/a\r\nX-Evil: 1",
                    "/",
                    "",
                    "/ä",
                    "/a\\b",
                    None,
                ),
            )
        ),
    ],
)
async def test_unusable_paths_are_refused(
    sandbox: Sandbox, client: PaymentsClient, arguments: Any, says: str
) -> None:
    """Another host, a path outside the base URL and a query in the path are refused, and nothing is sent."""
    with pytest.raises(ConfigurationError, match=says):
        await client.request(*arguments)
    assert sandbox.request_count == 0


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"params": [("a", "b")]}, "params is list: pass a dict"),
        ({"params": {"limit": 1.5}}, "params has 'limit': 1.5: use strings, whole numbers"),
        ({"params": {"flag": True}}, "params has 'flag': True"),
        ({"params": {"q": None}}, "params has 'q': None"),
        ({"params": {"q": "\ud800"}}, "half of a surrogate pair"),
        ({"json": {}}, "A GET has no body"),
    ],
)
async def test_unusable_parameters_are_refused(
    client: PaymentsClient, more: dict[str, Any], says: str
) -> None:
    """Parameters and bodies that would not arrive as intended are refused."""
    with pytest.raises(ConfigurationError, match=says):
        await client.request("GET", "/ip/payments", **more)
    with pytest.raises(ConfigurationError, match="json is object, which cannot be stored in JSON"):
        await client.request("POST", "/ip/payments", json=object())


async def test_ping_is_one_request(sandbox: Sandbox, client: PaymentsClient) -> None:
    """`ping` sends one request for at most one payment, and raises what is wrong."""
    await client.ping()
    assert [dict(seen.query) for seen in sandbox.requests] == [{"limit": "1"}]
    sandbox.order(Fault.ERROR_503, times=1)
    with pytest.raises(ServerError):
        await client.ping()
    assert sandbox.request_count == 2
    async with client_of(sandbox, auth=StoreAuth("abc123", "wrong")) as stranger:
        with pytest.raises(AuthenticationError):
            await stranger.ping()
    await sandbox.pause_listening()
    with pytest.raises(TransportError):
        await client.ping()


async def test_ended_attempts_have_the_request_id(sandbox: Sandbox) -> None:
    """`RequestEnded.request_id` is the service's own, for successes and failures."""
    events: list[Event] = []
    sandbox.order(Fault.ERROR_500, times=1)
    sandbox.order(Fault.RESET_BEFORE, times=1)
    async with client_of(sandbox, on_event=events.append) as client:
        await client.payments.get(7)
        with pytest.raises(NotFoundError) as caught:
            await client.payments.get(999)
    ids = [event.request_id for event in events if isinstance(event, RequestEnded)]
    assert ids.pop(1) is None
    assert None not in ids
    assert len(ids) == len(set(ids)) >= 3
    assert ids[-1] == caught.value.request_id


async def test_errors_have_retry_after(sandbox: Sandbox) -> None:
    """A 429, and a deadline too short for the quota, say after how many seconds to try again."""
    sandbox.rules = Rules(refusal_wait=7)
    sandbox.order(Fault.RATE_LIMITED, times=1)
    async with client_of(sandbox, retry=NEVER) as client:
        with pytest.raises(RateLimitError) as refused:
            await client.payments.get(7)
    assert refused.value.retry_after == pytest.approx(7, abs=0.01)
    async with client_of(sandbox, quota=Quota(1, 60), deadline=1, retry=RetryPolicy()) as client:
        await client.payments.get(7)
        with pytest.raises(RequestTimeoutError) as late:
            await client.payments.get(7)
    assert late.value.retry_after is not None
    assert 50 < late.value.retry_after <= 60.5
    assert pickle.loads(pickle.dumps(late.value)).retry_after == late.value.retry_after  # noqa: S301
