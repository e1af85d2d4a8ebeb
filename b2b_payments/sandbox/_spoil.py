"""Answers made wrong on purpose: bodies that no reader of JSON should trust."""

from __future__ import annotations

import math
import re
import zlib
from functools import cache
from typing import Final

import attrs
import msgspec

from b2b_payments.sandbox._admission import too_many
from b2b_payments.sandbox._answer import Answer
from b2b_payments.sandbox._faults import Fault
from b2b_payments.sandbox._rules import Rules

HUGE_CHUNK: Final = b"a" * 2**20
HUGE_CHUNKS: Final = 65
"""So many chunks of 1 MiB are more than 64 MiB."""

_ERROR_500 = Answer.error(500, "Something went wrong")
_DEEP = b"[" * 100_000 + b"]" * 100_000
_FIXED: Final = {
    Fault.HTML_404: Answer.gateway(404),
    Fault.HTML_502: Answer.gateway(502),
    Fault.HTML_502_AFTER: Answer.gateway(502),
    Fault.ERROR_500: _ERROR_500,
    Fault.ERROR_500_AFTER: _ERROR_500,
    Fault.ERROR_408: Answer.error(408, "Request timeout"),
    Fault.ERROR_408_AFTER: Answer.error(408, "Request timeout"),
    Fault.ERROR_421: Answer.error(421, "Misdirected request"),
    Fault.ERROR_425: Answer.error(425, "Too early"),
    Fault.OK_WITH_CODE_500: attrs.evolve(_ERROR_500, status=200),
    Fault.OK_WITH_CODE_500_AFTER: attrs.evolve(_ERROR_500, status=200),
    Fault.OK_WITH_ODD_CODE: Answer.json(200, {"code": "E_LOCKED", "data": {}, "meta": {"message": "Locked"}}),
    Fault.GARBAGE: Answer(200, b"\x00\x01{]not json\x7f"),
    Fault.EMPTY: Answer(200, b""),
    Fault.WRONG_TYPE: Answer(200, b"<html><body>We'll be right back.</body></html>", "text/html"),
    Fault.DEEP: Answer(200, b'{"code":200,"data":%b,"meta":{"message":"SUCCESS"}}' % _DEEP),
}

_ID_OR_COUNT = re.compile(rb'"(id|paymentId|totalCount)":[^,}]+')


def instead(fault: Fault, rules: Rules, date: int) -> Answer | None:
    """Give the answer that a fault puts in the place of the service's, None if it only changes that one.

    `date` is that of the answer, in epoch seconds.
    """
    match fault:
        case Fault.RATE_LIMITED:
            return too_many(rules, rules.refusal_wait, date)
        case Fault.ERROR_503:
            wait = rules.unavailable_wait
            headers = {} if wait is None else {"Retry-After": str(math.ceil(wait))}
            return attrs.evolve(Answer.error(503, "Temporarily unavailable"), headers=headers)
        case Fault.REDIRECT | Fault.REDIRECT_AFTER:
            status = 302 if fault is Fault.REDIRECT else 303
            return Answer(status, b"", headers={"Location": rules.redirect_to})
        case Fault.GZIP_BOMB:
            return Answer(200, _gzip_bomb(), headers={"Content-Encoding": "gzip"})
        case Fault.FLOOD:
            return Answer(200, b'{"code":200,"data":[%b],"meta":{}}' % b",".join([b"{}"] * 1_000_000))
        case _:
            return _FIXED.get(fault)


def spoil(answer: Answer, fault: Fault | None) -> Answer:
    """Change the service's own answer as a fault does."""
    match fault:
        case Fault.INVALID_UTF8:
            return attrs.evolve(answer, body=answer.body.replace(b'"message":"', b'"message":"\xff\xc0'))
        case Fault.NAN:
            return attrs.evolve(answer, body=_ID_OR_COUNT.sub(rb'"\1":NaN', answer.body))
        case Fault.REFUSED_WITH_CODE_200_AFTER:
            return attrs.evolve(answer, status=400)
        case Fault.BYTE_ORDER_MARK:
            return attrs.evolve(answer, body=b"\xef\xbb\xbf" + answer.body)
        case Fault.DUPLICATE_IDS:
            return _doubled(answer)
        case Fault.EMPTY_LIST:
            return _emptied(answer)
        case _:
            return answer


def _doubled(answer: Answer) -> Answer:
    payload = msgspec.json.decode(answer.body)
    if isinstance(payload.get("data"), list):
        payload["data"] = [row for row in payload["data"] for _ in range(2)]
    return Answer.json(answer.status, payload)


def _emptied(answer: Answer) -> Answer:
    payload = msgspec.json.decode(answer.body)
    if isinstance(payload.get("data"), list):
        payload["data"] = []
        if "totalCount" in (pagination := payload["meta"]["pagination"]):
            pagination["totalCount"] = 0
    return Answer.json(answer.status, payload)


@cache
def _gzip_bomb() -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    packed = [packer.compress(b'{"code":200,"data":"')]
    packed += [packer.compress(HUGE_CHUNK) for _ in range(HUGE_CHUNKS)]
    packed += [packer.compress(b'","meta":{}}'), packer.flush()]
    return b"".join(packed)
