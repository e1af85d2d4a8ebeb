"""A FastAPI route can return models as they are, with or without an annotation."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest
from fastapi import FastAPI

from b2b_payments import Channel, Payment, from_wire, to_dict
from b2b_payments._models.answer_model import AnswerModel
from tests.support.examples import CHANNELS, LISTED_PAYMENT

PAYMENT = from_wire(Payment, LISTED_PAYMENT)
CHANNEL = from_wire(Channel, CHANNELS[0])


async def annotated() -> Payment:
    """Return a payment, with its type as the annotation."""
    return PAYMENT


async def listed() -> list[Payment]:
    """Return payments."""
    return [PAYMENT]


async def nested() -> dict[str, Payment | Channel]:
    """Return models of several kinds."""
    return {"payment": PAYMENT, "channel": CHANNEL}


async def anything() -> Any:
    """Return a payment, annotated as Any."""
    return PAYMENT


async def of_anything() -> dict[str, Any]:
    """Return models in a dict of Any."""
    return {"payment": PAYMENT, "channels": [CHANNEL]}


async def bare():  # type: ignore[no-untyped-def]  # noqa: ANN201, RUF100
    """Return a payment, without an annotation."""
    return {"found": [PAYMENT]}


HANDLERS: dict[str, tuple[Any, Any]] = {
    "/annotated": (annotated, to_dict(PAYMENT)),
    "/listed": (listed, [to_dict(PAYMENT)]),
    "/nested": (nested, {"payment": to_dict(PAYMENT), "channel": to_dict(CHANNEL)}),
    "/anything": (anything, to_dict(PAYMENT)),
    "/of-anything": (of_anything, {"payment": to_dict(PAYMENT), "channels": [to_dict(CHANNEL)]}),
    "/bare": (bare, {"found": [to_dict(PAYMENT)]}),
}


async def response_of(app: FastAPI, path: str) -> tuple[int, Any]:
    """Request a path from an application over ASGI. Returns the status and the JSON body."""
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


@pytest.mark.parametrize("handler", [annotated, anything], ids=["annotated", "anything"])
@pytest.mark.parametrize(
    ("options", "visible"),
    [
        ({"response_model_exclude": {"extra", "details"}}, lambda name: name not in {"extra", "details"}),
        ({"response_model_include": {"id", "total"}}, lambda name: name in {"id", "total"}),
        ({"response_model_exclude_none": True}, lambda name: getattr(PAYMENT, name) is not None),
    ],
)
async def test_a_route_leaves_out_what_it_excludes(
    handler: Any, options: dict[str, Any], visible: Callable[[str], bool]
) -> None:
    """Options such as `response_model_exclude` apply to models as to a pydantic model."""
    app = FastAPI()
    app.get("/", **options)(handler)
    expected = {name: value for name, value in to_dict(PAYMENT).items() if visible(name)}
    assert expected.keys() < to_dict(PAYMENT).keys()
    assert await response_of(app, "/") == (200, expected)


async def test_a_route_leaves_out_what_it_excludes_in_nested_models() -> None:
    """Exclusions also apply within lists and nested models; null within the service's own data is kept."""
    payment = from_wire(Payment, {**LISTED_PAYMENT, "lineItems": [{"paymentId": 7}], "details": {"a": None}})

    async def several() -> list[Payment]:
        return [payment]

    app = FastAPI()
    exclude = {"__all__": {"total": {"currency", "extra"}}}
    app.get("/", response_model_exclude=exclude, response_model_exclude_none=True)(several)
    status, [row] = await response_of(app, "/")
    assert (status, row["total"]) == (200, {"amount": "30.0000"})
    assert row["line_items"] == [{"payment_id": 7, "invoice_number": "", "extra": {}}]
    assert row["details"] == {"a": None}


@pytest.fixture
def app() -> FastAPI:
    """An application with all handlers."""
    application = FastAPI()
    for path, (handler, _) in HANDLERS.items():
        application.get(path)(handler)
    return application


@pytest.mark.parametrize("path", HANDLERS)
async def test_a_route_returns_plain_data(app: FastAPI, path: str) -> None:
    """The response is 200 with the result of `to_dict`: attribute names, amounts as text, ISO 8601 times."""
    assert await response_of(app, path) == (200, HANDLERS[path][1])


async def test_the_application_has_an_openapi_document(app: FastAPI) -> None:
    """FastAPI can generate the OpenAPI document of such routes."""
    status, document = await response_of(app, "/openapi.json")
    assert status == 200
    assert set(document["paths"]) == set(HANDLERS)


def test_a_model_without_pydantic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pydantic, models lack its attribute, so that whoever looks for it sees that they have none."""

    class Model(AnswerModel):
        pass

    monkeypatch.setitem(sys.modules, "pydantic_core", None)
    assert not hasattr(Model, "__pydantic_serializer__")
