"""Hostile answers, drawn at random: bodies that are nearly right, and services whose lists never end."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import attrs
import msgspec

from b2b_payments._protocol.answer import Answer
from b2b_payments._protocol.request import Request
from tests.support import examples

BODIES: tuple[Any, ...] = (
    examples.listed(examples.SHOWN_PAYMENT, examples.LISTED_PAYMENT, total=2),
    examples.answered(examples.SHOWN_PAYMENT),
    examples.answered(examples.TRANSACTIONS),
    examples.answered(examples.CHANNELS),
    examples.answered(examples.OPERATIONS),
    examples.OFFLINE_RECORDED,
    {"code": 422, "data": {"customerId": ["Unknown."], "errMsg": "No."}, "meta": {"message": "Invalid"}},
    {"code": 403, "message": "Denied"},
)
STATUSES = (200, 200, 200, 200, 201, 204, 302, 400, 401, 403, 404, 409, 413, 418, 422, 429, 500, 502, 599)

JUNK: tuple[bytes, ...] = (
    *(b"null", b"true", b"false", b"0", b"-1", b"1", b"3", b"[]", b"{}", b'""', b'"0"', b'" "', b'"-7"'),
    *(b"NaN", b"Infinity", b"-Infinity", b"nan", b"1.5", b"-0.0", b"1e5", b"0.1e-9", b"1E400", b"-1e-400"),
    *(b"1e99999", b"1e999999999999999999999", b"9" * 25, b"9" * 4_300, b"9" * 4_301, b"9" * 9_000),
    *(b"1." + b"3" * 5_000, b"1E+999990", b"1E-999990", b"1E+999999999", b"253402300799", b"253402300800"),
    *(b'"1E+999990"', b'"1E+999999999"', b'"NaN"', b'"sNaN"', b'"-Infinity"', b'"1_000"', b'"\xd9\xa3"'),
    *(
        b'"' + b"9" * 20 + b'"',
        b'"' + b"9" * 9_000 + b'"',
        b'"\\ud800"',
        b'"\\u0000"',
        b'"\xff\xfe"',
        b'"\xc0"',
    ),
    *(b"[" * depth + b"]" * depth for depth in (10, 98, 99, 100, 101, 300, 900, 990, 5_000)),
    *(b'{"a":' * depth + b"1" + b"}" * depth for depth in (98, 101, 490, 990)),
    *(b'[[],{"a":[]},' * 120 + b"0" + b"]" * 120, b'"' + b"[{" * 200 + b'"', b"[" * 200, b"]" * 200),
    *(b"[null,1,{}]", b'[{"id":1},[]]', b'{"code":[],"value":{}}', b'{"id":{"id":{}}}', b'[1,1,1,"1"]'),
    *(b'{"totalCount":1e12,"offset":-1,"limit":0}', b'{"totalCount":"NaN","offset":[],"limit":{}}'),
)
"""Fragments to put in the place of a value. Some are not JSON."""

HEADERS: Mapping[str, tuple[str, ...]] = {
    "X-Requests-Remaining": ("149 times", "-1", "", "9" * 30, "NaN", "\u0663 times", "1e9"),
    "X-Request-Window-Resets-After": ("0.397 s", "-5 s", "9" * 15 + " s", "inf", "s", ". s"),
    "X-Requests-Allocated": ("150 times/60 s", "0/0", "1/0 s", "9" * 15 + "/" + "9" * 15, "/"),
    "Retry-After": ("1", "Wed, 21 Oct 2065 07:28:00 GMT", "Mon, 99 Foo 0000 99:99:99 +9999", ",", "0x1", " "),
    "X-Rate-Limit-Time-Reset-Ms": ("1000", "-1", "1 h", "\x00"),
    "X-Request-Id": ("", "x" * 10_000, "\x1b[31m"),
}


def body(draw: random.Random, corpus: tuple[Any, ...]) -> bytes:
    """Spoil the values, fields and bytes of one of these bodies."""
    value = copy.deepcopy(draw.choice(corpus))
    fragments: dict[bytes, bytes] = {}
    for number in range(draw.choice((0, 1, 1, 1, 2, 4))):
        value = _spoiled(draw, value, f"\x7fjunk{number}", fragments)
    encoded = msgspec.json.encode(value)
    for mark, fragment in fragments.items():
        encoded = encoded.replace(mark, fragment)
    return _bytes_spoiled(draw, encoded) if draw.random() < 0.3 else encoded


def answer(draw: random.Random, corpus: tuple[Any, ...]) -> Answer:
    """Draw an answer: status, headers and body."""
    headers = {name: draw.choice(values) for name, values in HEADERS.items() if draw.random() < 0.3}
    return Answer(draw.choice(STATUSES), headers, body(draw, corpus))


def _spoiled(draw: random.Random, value: Any, mark: str, fragments: dict[bytes, bytes]) -> Any:
    """Put junk in the place of a value somewhere inside, drop it, or repeat it."""
    holder: Any = None
    place: Any = None
    here = value
    while isinstance(here, dict | list) and here and (holder is None or draw.random() < 0.75):
        holder = here
        place = draw.choice(list(here)) if isinstance(here, dict) else draw.randrange(len(here))
        here = here[place]
    fragments[msgspec.json.encode(mark)] = draw.choice(JUNK)
    if holder is None:
        return mark
    what = draw.random()
    if what < 0.1:
        del holder[place]
    elif what < 0.2 and isinstance(holder, list):
        holder.extend(copy.deepcopy([here] * draw.choice((1, 2, 50))))
    elif what < 0.3 and isinstance(holder, dict):
        holder[mark if draw.random() < 0.3 else draw.choice(("id", "code", "data", "x", ""))] = here
    else:
        holder[place] = mark
    return value


def _bytes_spoiled(draw: random.Random, encoded: bytes) -> bytes:
    at = draw.randrange(len(encoded) + 1)
    match draw.randrange(5):
        case 0:
            return encoded[:at]
        case 1:
            return encoded[:at] + bytes([draw.randrange(256)]) + encoded[at + 1 :]
        case 2:
            return encoded[:at] + draw.choice(JUNK) + encoded[at:]
        case 3:
            return encoded[:at] + encoded[draw.randrange(len(encoded) + 1) :]
        case _:
            return b"\xef\xbb\xbf" + encoded + bytes(at % 3)


@attrs.define
class Liar:
    """A service whose lists lie, each in its own way, and that knows no more than `ids` payments.

    Answers in a walk's stead of a socket; raises AssertionError when asked more than `most` times.
    """

    HABITS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "rows": ("same", "by offset", "by offset", "random", "random", "empty", "now and then"),
        "times": ("equal", "by id", "by id", "later each time", "random", "falling", "text", "fraction"),
        "total": ("true", "none", "zero", "billion", "more", "less", "random", "negative", "grows"),
        "offset": ("asked", "asked", "none", "zero", "thousand", "random", "negative"),
        "limit": ("asked", "none", "zero", "one", "billion"),
    }

    draw: random.Random
    ids: int = attrs.field(init=False)
    habits: dict[str, str] = attrs.field(init=False)
    asked: int = 0
    most: int = 10_000

    def __attrs_post_init__(self) -> None:
        self.ids = self.draw.choice((1, 3, 30, 200))
        self.habits = {name: self.draw.choice(habits) for name, habits in self.HABITS.items()}

    async def send(
        self,
        request: Request,
        credential: Mapping[str, str],  # noqa: ARG002
        *,
        timeout: float,
        on_send: Callable[[], object] | None = None,  # noqa: ARG002
    ) -> Answer:
        """Answer a request for the list, or for one payment, which exists or not at random."""
        assert timeout > 0
        self.asked += 1
        assert self.asked <= self.most, self.habits
        if not request.query:
            return self._lookup(int(request.path.rsplit("/", 1)[1]))
        query = dict(request.query)
        offset, limit = int(query["offset"]), int(query["limit"])
        rows = self._rows(offset, min(limit, 250), descending=query["orderBy"] == "DESC")
        pagination = {
            "totalCount": self._total(offset, len(rows)),
            "offset": self._offset(offset),
            "limit": {"asked": limit, "none": None, "zero": 0, "one": 1, "billion": 10**9}[
                self.habits["limit"]
            ],
        }
        payload = {"code": 200, "data": rows, "meta": {"pagination": pagination}}
        return Answer(200, {}, msgspec.json.encode(payload))

    def _lookup(self, payment_id: int) -> Answer:
        if self.draw.random() < 0.5:
            return Answer(404, {}, b'{"code": 404, "data": {}, "meta": {"message": "Not Found Error"}}')
        row = {**examples.LISTED_PAYMENT, "id": payment_id}
        return Answer(200, {}, msgspec.json.encode({"code": 200, "data": row, "meta": {}}))

    def _rows(self, offset: int, limit: int, *, descending: bool) -> list[dict[str, Any]]:
        match self.habits["rows"]:
            case "same":
                ids = list(range(1, self.ids + 1))[:limit]
            case "by offset":
                ids = list(range(1, self.ids + 1))[offset : offset + limit]
            case "random":
                ids = sorted(
                    self.draw.choices(range(1, self.ids + 1), k=min(limit, self.draw.randrange(1, 9)))
                )
            case "now and then":
                ids = [self.draw.randrange(1, self.ids + 1)] if self.draw.random() < 0.5 else []
            case _:
                ids = []
        times = [self._time(payment_id) for payment_id in ids]
        if self.habits["times"] != "falling":
            times.sort(key=float, reverse=descending)
        rows = [copy.copy(examples.LISTED_PAYMENT) for _ in ids]
        for row, payment_id, moment in zip(rows, ids, times, strict=True):
            row |= {"id": payment_id, "createdAt": moment, "updatedAt": moment}
        return rows

    def _time(self, payment_id: int) -> int | float | str:
        times: dict[str, int | float | str] = {
            "equal": 1_700_000_000,
            "by id": 1_700_000_000 + payment_id,
            "later each time": 1_700_000_000 + self.asked,
            "random": 1_700_000_000 + self.draw.randrange(5),
            "falling": 1_700_000_000 - payment_id,
            "text": str(1_700_000_000 + payment_id),
            "fraction": 1_700_000_000 + payment_id / 8,
        }
        return times[self.habits["times"]]

    def _total(self, offset: int, rows: int) -> int | None:
        return {
            "true": self.ids,
            "none": None,
            "zero": 0,
            "billion": 10**9,
            "more": offset + rows + 1,
            "less": max(0, offset + rows - 1),
            "random": self.draw.randrange(2 * self.ids),
            "negative": -5,
            "grows": self.ids + self.asked,
        }[self.habits["total"]]

    def _offset(self, asked: int) -> int | None:
        return {
            "asked": asked,
            "none": None,
            "zero": 0,
            "thousand": 1_000,
            "random": self.draw.randrange(2_000),
            "negative": -5,
        }[self.habits["offset"]]
