"""A web handler returns a payment as it is: FastAPI makes JSON of it, with or without an annotation."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from typing import Any

import pytest
from fastapi import FastAPI

from b2b_payments import Channel, Payment, from_wire, to_dict
from tests.support.examples import CHANNELS, LISTED_PAYMENT

PAYMENT = from_wire(Payment, LISTED_PAYMENT)
CHANNEL = from_wire(Channel, CHANNELS[0])


async def annotated() -> Payment:
    """Return a payment, and say so."""
    return PAYMENT


async def listed() -> list[Payment]:
    """Return payments."""
    return [PAYMENT]


async def nested() -> dict[str, Payment | Channel]:
    """Return models of several kinds."""
    return {"payment": PAYMENT, "channel": CHANNEL}


async def anything() -> Any:
    """Return a payment, and leave open what it is."""
    return PAYMENT


async def of_anything() -> dict[str, Any]:
    """Return models within an object of anything."""
    return {"payment": PAYMENT, "channels": [CHANNEL]}


async def bare():  # type: ignore[no-untyped-def]  # noqa: ANN201, RUF100
    """Return a payment, and say nothing."""
    return {"found": [PAYMENT]}


HANDLERS: dict[str, tuple[Any, Any]] = {
    "/annotated": (annotated, to_dict(PAYMENT)),
    "/listed": (listed, [to_dict(PAYMENT)]),
    "/nested": (nested, {"payment": to_dict(PAYMENT), "channel": to_dict(CHANNEL)}),
    "/anything": (anything, to_dict(PAYMENT)),
    "/of-anything": (of_anything, {"payment": to_dict(PAYMENT), "channels": [to_dict(CHANNEL)]}),
    "/bare": (bare, {"found": [to_dict(PAYMENT)]}),
}


async def answer_of(app: FastAPI, path: str) -> tuple[int, Any]:
    """Ask an application for a path, as a server does; give the status and the body."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"", "headers": [],
        "server": ("store.example", 80), "client": ("client.example", 1),
    }  # fmt: skip
    await app(scope, receive, send)
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent))


@pytest.fixture
def app() -> FastAPI:
    """An application with all handlers."""
    made = FastAPI()
    for path, (handler, _) in HANDLERS.items():
        made.get(path)(handler)
    return made


@pytest.mark.parametrize("path", HANDLERS)
async def test_a_route_answers_with_plain_data(app: FastAPI, path: str) -> None:
    """The answer is 200 with what `to_dict` gives: names of this library, amounts as text, ISO 8601 times."""
    assert await answer_of(app, path) == (200, HANDLERS[path][1])


async def test_the_application_can_describe_itself(app: FastAPI) -> None:
    """The OpenAPI document of such routes can be made."""
    status, document = await answer_of(app, "/openapi.json")
    assert status == 200
    assert set(document["paths"]) == set(HANDLERS)
