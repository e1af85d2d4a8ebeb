"""Whether an answer belongs to its request: it can be known only where the answer says what it is about.

Proxies mix answers up, and one that comes late or twice on a kept connection is taken for the next. So what
an answer says is held against what was asked: a payment's id, a page's offset, and whether it is a list's
answer at all. What it does not say is no contradiction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from b2b_payments.errors import AnswerMismatchError
from b2b_payments.protocol.request import Request
from b2b_payments.retry import Kind

_OPERATIONS = ("allowedOperations", "allowedStatuses")


def may_mean_nothing(request: Request) -> bool:
    """Whether a service may always say something else about such a request, and still answer it rightly."""
    return request.kind is Kind.READ and request.call not in {"payments.get", "channels.get"}


def check_envelope(request: Request, data: Any, meta: Mapping[str, Any]) -> None:
    """Raise AnswerMismatchError where an answer other than a list's belongs to another request."""
    if not request.checked:
        return
    if request.call != "payments.list" and isinstance(meta.get("pagination"), dict):
        raise _mismatch(request, "$.meta.pagination", "is of a list")
    if request.kind is not Kind.READ and isinstance(data, list):
        raise _mismatch(request, "$.data", "is a list")
    if not isinstance(data, dict):
        return
    if request.payment_id is not None:
        for name in ("id",) if request.call == "payments.get" else ("id", "paymentId"):
            if (said := _number(data.get(name))) not in (None, request.payment_id):
                raise _mismatch(request, f"$.data.{name}", f"is {said}, not {request.payment_id}")
    if (missing := _missing(request, data)) is not None:
        raise _mismatch(request, f"$.data.{missing}", "is missing, and other things are there")


def check_offset(request: Request, said: int | None, asked: int) -> None:
    """Raise AnswerMismatchError where a page says that it is another than the one asked for."""
    if request.checked and said is not None and said != asked:
        raise _mismatch(request, "$.meta.pagination.offset", f"is {said}, not {asked}")


def _number(said: object) -> int | None:
    """Read an id, which may come as a string [seen]; what is no number is somebody else's to judge."""
    if isinstance(said, str) and said.isascii() and said.isdigit() and len(said) < 20:
        return int(said)
    return said if type(said) is int else None


def _missing(request: Request, data: Mapping[str, Any]) -> str | None:
    """Name the field without which this is the answer of another endpoint; None where there is none."""
    ids = "id" in data or "paymentId" in data
    operations = any(name in data for name in _OPERATIONS)
    if request.call == "payments.create_offline":
        return "paymentId" if data and "paymentId" not in data else None
    if request.call == "payments.get":
        return "id" if "id" not in data and (ids or operations) else None
    if request.call == "payments.operations":
        return _OPERATIONS[0] if ids and not operations else None
    if request.kind is not Kind.READ:
        return "id" if operations and not ids else None
    return None


def _mismatch(request: Request, path: str, what: str) -> AnswerMismatchError:
    return AnswerMismatchError(
        f"{request.method} {request.path}: the answer is to another request: {path} {what}.", paths=[path]
    )
