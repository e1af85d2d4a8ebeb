"""Whether an answer belongs to its request: every kind of answer against every kind of request."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from b2b_payments import AnswerMismatchError, ResponseDecodeError
from b2b_payments._protocol import request as requests
from b2b_payments._protocol.answer import Answer, read_envelope
from b2b_payments._protocol.belonging import check_proof
from b2b_payments._protocol.json import encode
from b2b_payments._protocol.listing import read_listing
from b2b_payments._protocol.request import Request
from tests.support.examples import CHANNELS, LISTED_PAYMENT, OPERATIONS, TRANSACTIONS

PAGE = {"pagination": {"totalCount": 9, "offset": 0, "limit": 250}}
ASKED = {
    "get": requests.get_payment(70),
    "delete": requests.delete_payment(70),
    "operations": requests.get_operations(70),
    "perform": requests.perform_operation(70, 0),
    "status": requests.update_processing_status(70, 2),
    "transactions": requests.get_transactions(70),
    "create": requests.create_offline({}),
    "update": requests.update_offline(70, {}),
    "channels": requests.list_channels(),
    "channel": requests.get_channel(1),
    "list": requests.list_payments(()),
}
OWN: dict[str, tuple[Any, dict[str, Any]]] = {
    "get": (LISTED_PAYMENT, {}),
    "delete": ({"id": 70}, {}),
    "operations": (OPERATIONS, {}),
    "perform": ({"id": "70"}, {}),
    "status": ({"id": 70}, {}),
    "transactions": (TRANSACTIONS, {}),
    "create": ({"paymentId": 112}, {}),
    "update": ({"paymentId": "70"}, {}),
    "channels": (CHANNELS, {}),
    "channel": (CHANNELS[0], {}),
    "list": ([LISTED_PAYMENT], PAGE),
}
# The same answers about another payment, if the request is about one.
OTHERS = OWN | {
    "get": ({**LISTED_PAYMENT, "id": 71}, {}),
    "delete": ({"id": "71"}, {}),
    "perform": ({"id": 71}, {}),
    "status": ({"id": 71}, {}),
    "update": ({"paymentId": 71}, {}),
    "channel": ({**CHANNELS[0], "channelId": 2}, {}),
    "list": ([LISTED_PAYMENT], {"pagination": {"totalCount": 999, "offset": 250, "limit": 250}}),
}
# Indistinguishable pairs: these answers do not name what they are about.
ALIKE = {
    ("create", "update"),
    ("operations", "operations"),
    ("transactions", "transactions"),
    ("transactions", "channels"),
    ("channels", "transactions"),
    ("channels", "channels"),
    ("create", "create"),
    ("list", "channels"),
}


def read(request: Request, data: Any, meta: dict[str, Any]) -> object:
    """Read an answer with this data and meta."""
    answer = Answer(200, {}, encode({"code": 200, "data": data, "meta": meta}))
    if request.call == "payments.list":
        return read_listing(request, answer, "", offset=0)
    return read_envelope(request, answer, "")


@pytest.mark.parametrize("name", ASKED)
def test_own_answer_is_accepted(name: str) -> None:
    """The documented answer to each request belongs to it; ids may be strings."""
    read(ASKED[name], *OWN[name])


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", ASKED)
def test_answer_to_another_request_is_refused(name: str, other: str) -> None:
    """The answer to another request is refused if anything in it shows that."""
    if (name, other) in ALIKE:
        read(ASKED[name], *OTHERS[other])
        return
    with pytest.raises(ResponseDecodeError) as caught:
        read(ASKED[name], *OTHERS[other])
    assert caught.value.paths[0].startswith("$.")
    if name != "list" or isinstance(OTHERS[other][0], list):
        assert type(caught.value) is AnswerMismatchError
        about = f"{ASKED[name].method} {ASKED[name].path}: the answer belongs to another request: $"
        assert caught.value.message.startswith(about)


RECEIPT = Request("receipts.get", "GET", "/ip/receipts/3")


@pytest.mark.parametrize("data", [{"id": 4}, {"id": "4"}, {"receiptNumber": 3}, {}, [{"id": 3}]])
def test_new_endpoint_is_checked_by_its_id(data: Any) -> None:
    """The answer to any GET by id must name that id, even of an endpoint unknown to this module."""
    read(RECEIPT, {"id": 3}, {})
    with pytest.raises(AnswerMismatchError, match=r"^GET /ip/receipts/3: the answer belongs to"):
        read(RECEIPT, data, {})


def test_named_at_sets_the_checked_fields() -> None:
    """A request may name another field for the id, or none: then the answer's id is not checked."""
    read(attrs.evolve(RECEIPT, named_at=()), {"id": 4}, {})
    with pytest.raises(AnswerMismatchError, match=r"\$\.data\.receiptId is 4, not 3"):
        read(attrs.evolve(RECEIPT, named_at=("receiptId",)), {"id": 3, "receiptId": 4}, {})


@pytest.mark.parametrize("data", [{}, None, [], {"message": "done"}, {"id": None}, {"id": "a-b"}])
@pytest.mark.parametrize("name", ["delete", "perform", "status", "update"])
def test_write_without_an_id_is_accepted(name: str, data: Any) -> None:
    """A write's answer without an id, or with one that is not a number, is accepted."""
    read(ASKED[name], data, {})


@pytest.mark.parametrize("offset", [None, "", -1, "?", 1.5, True, {}])
def test_invalid_offset_is_not_a_mismatch(offset: Any) -> None:
    """A page without an offset, or with an invalid one, is accepted."""
    pagination = {"offset": offset, "totalCount": 9}
    read(ASKED["list"], [LISTED_PAYMENT], {"pagination": pagination})
    read(ASKED["list"], [LISTED_PAYMENT], {})


def test_page_beyond_the_end_may_name_the_total() -> None:
    """Beyond the last row, a service may report the total as the offset."""

    def page(rows: list[Any], **pagination: int) -> object:
        body = encode({"code": 200, "data": rows, "meta": {"pagination": pagination}})
        return read_listing(ASKED["list"], Answer(200, {}, body), "", offset=500)

    page([], offset=120, totalCount=120)
    for rows, pagination in (
        ([], {"offset": 0, "totalCount": 0}),
        ([], {"offset": 100, "totalCount": 120}),
        ([LISTED_PAYMENT], {"offset": 120, "totalCount": 120}),
    ):
        with pytest.raises(
            AnswerMismatchError, match=r"pagination\.\w+ is \d+(, and so is the offset)?, not 500"
        ):
            page(rows, **pagination)


NO_ROWS: tuple[Any, dict[str, Any]] = ([], {"pagination": {"offset": 0, "totalCount": 0}})
IGNORED = {"list": "$.meta.pagination.offset", "transactions": "$.meta.pagination", "operations": "$.data.id"}


@pytest.mark.parametrize("name", ASKED)
def test_ignored_paths_are_not_checked(name: str) -> None:
    """A constant value is ignored; an answer of another endpoint or payment never is."""
    request = attrs.evolve(ASKED[name], ignored=frozenset(IGNORED.values()))
    if name == "list":
        read(request, *OTHERS["list"])
        return
    if name == "operations":
        read(request, {"allowedOperations": [], "id": 71}, {})
    if name == "transactions":
        read(request, *NO_ROWS)
    with pytest.raises(AnswerMismatchError):
        read(request, *OTHERS["list" if name in {"get", "transactions"} else "delete"])


def test_said_is_set_for_possible_constants() -> None:
    """Only a value that could be constant is reported in `said`, never a payment's id or a write's."""
    habits: dict[str, str | None] = {}
    for name in ("list", "transactions", "operations", "get", "status"):
        others = {"list": OTHERS["list"], "transactions": NO_ROWS, "operations": OTHERS["status"]}
        with pytest.raises(AnswerMismatchError) as caught:
            read(ASKED[name], *others.get(name, OTHERS["get"]))
        habits[name] = caught.value.said
    assert habits == {
        "list": "$.meta.pagination.offset: 250",
        "transactions": "$.meta.pagination: [0, 0]",
        "operations": "$.data.id: 71",
        "get": None,
        "status": None,
    }


@pytest.mark.parametrize(
    ("data", "proves"),
    [({"id": 70}, True), ({"paymentId": "70"}, True), ({"id": 71}, False), ({}, False), (None, False)],
)
def test_write_is_proven_by_its_payment(data: Any, *, proves: bool) -> None:
    """While answers get mixed up, a write's answer must name its payment, unless it is a create."""
    check_proof(ASKED["create"], data)
    if proves:
        check_proof(ASKED["delete"], data)
        return
    with pytest.raises(AnswerMismatchError, match="may belong to another request"):
        check_proof(ASKED["delete"], data)
