"""Whether an answer belongs to its request: it can be known only where the answer says what it is about.

Proxies mix answers up, and one that comes late or twice on a kept connection is taken for the next. So what
an answer says is held against what was asked: the id in the path, a page's offset, the store, and whether it
is a list's answer at all. What it does not say is no contradiction. A request states which fields name its
id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from b2b_payments._errors import AnswerMismatchError
from b2b_payments._models.decimals import whole_of
from b2b_payments._protocol.request import Request
from b2b_payments._retry import Effect

_CREATE = "payments.create_offline"
_SEVERAL = frozenset({"channels.list", "payments.transactions"})
OF_ROWS = "$.data[]"
"""Where the rows of a page are, as the place of a mismatch says it."""
OF_PAGE = "$.meta.pagination.offset"
OF_TOTAL = "$.meta.pagination.totalCount"
"""Where it shows that an offset beyond the total is named as the total, whatever rows come with it."""
OF_STORE = "$..storeHash"
"""Where payments say whose they are, in whatever answer they come."""
_OPERATIONS = ("allowedOperations", "allowedStatuses")


def check_envelope(request: Request, data: Any, meta: Mapping[str, Any]) -> None:
    """Raise AnswerMismatchError where an answer other than a list's belongs to another request."""
    pagination = meta.get("pagination")
    one_thing = request.call == _CREATE or (request.about is not None and bool(request.named_at))
    if (one_thing or request.call in _SEVERAL) and isinstance(pagination, dict):
        said = [whole_of(pagination.get(name)) for name in ("offset", "totalCount")]
        require(request, "$.meta.pagination", "is of a list's page", None if _are_payments(data) else said)
    # Not empty: some services write an object without fields as an empty list, and the other way round.
    if one_thing and isinstance(data, list) and any(isinstance(one, dict) for one in data):
        raise _mismatch(request, "$.data", "is a list")
    if request.call in _SEVERAL and isinstance(data, dict) and data:
        raise _mismatch(request, "$.data", "is no list")
    if request.call.startswith("channels.") and _are_payments(data):  # a payment has a channelId, too
        raise _mismatch(request, "$.data", "is of payments")
    if not isinstance(data, dict):
        return
    check_stores(request, [data.get("storeHash")])
    if (about := request.about) is not None:
        for name in request.named_at:
            if (named := whole_of(data.get(name))) not in (None, about):
                require(request, f"$.data.{name}", f"is {named}, not {about}", named)
    if (missing := _missing(request, data)) is not None:
        raise _mismatch(request, f"$.data.{missing}", "is missing, and other things are there")


def check_page(
    request: Request, asked: int, said: int | None, total: int | None, rows: Sequence[Any]
) -> None:
    """Raise AnswerMismatchError where a list's answer is another page, or lists something else.

    `said` is the offset that it names, None where it names none.
    """
    is_clamped = said == total and 0 < (total or 0) < asked
    if is_clamped and rows:
        require(request, OF_TOTAL, f"is {said}, and so is the offset, not {asked}", said)
    elif said is not None and said != asked and not is_clamped:
        require(request, OF_PAGE, f"is {said}, not {asked}", said)
    if rows and rows[0].id is None:
        raise _mismatch(request, "$.data[0].id", "is missing, and other things are there")


def check_stores(request: Request, said: Iterable[object]) -> set[str]:
    """Return the stores that payments say they are of. Raises AnswerMismatchError where that is another."""
    stores = {one for one in said if type(one) is str and one}
    others = stores - {request.store} if request.store else stores if len(stores) > 1 else None
    if others and OF_STORE not in request.ignored:
        require(request, OF_STORE, "is another store's", sorted(others))
    return stores


def check_proof(request: Request, data: Any) -> None:
    """Raise AnswerMismatchError where a write's answer does not say what it is about: it proves nothing."""
    said = [data.get(name) for name in request.named_at] if isinstance(data, dict) else []
    if request.about is not None and request.about not in map(whole_of, said):
        raise _mismatch(request, "$.data.id", "is missing, and answers were mixed up lately", "may be")


def _missing(request: Request, data: Mapping[str, Any]) -> str | None:
    """Name the field without which this is the answer of another endpoint; None where there is none."""
    ids = "id" in data or "paymentId" in data
    operations = any(name in data for name in _OPERATIONS)
    if request.call == _CREATE:
        return "paymentId" if data and "paymentId" not in data else None
    if request.is_by_id:
        return next((name for name in request.named_at if name not in data), None)
    if request.call == "payments.operations":
        return None if operations else _OPERATIONS[0]
    if request.effect is not Effect.READ:
        return "id" if operations and not ids else None
    return None


def _are_payments(data: Any) -> bool:
    rows = data if isinstance(data, list) else [data]
    return any(isinstance(row, dict) and "moduleName" in row for row in rows)


def require(request: Request, path: str, what: str, said: object, *, in_part: bool = False) -> None:
    """Raise for what an answer says, unless a service is known to say it always.

    `in_part` says that some of what was asked for came all the same.
    """
    # What is asked for by its id has to name that id, whatever a service usually says; a write, its payment.
    is_its_own_id = request.is_by_id and path.startswith("$.data.")
    may_be_habit = said is not None and request.effect is Effect.READ and not is_its_own_id
    if not may_be_habit:
        raise _mismatch(request, path, what)
    if path not in request.ignored:
        failure = _mismatch(request, path, what, said=f"{path}: {said}")
        failure.in_part = in_part
        raise failure


def _mismatch(
    request: Request, path: str, what: str, be: str = "is", *, said: str | None = None
) -> AnswerMismatchError:
    return AnswerMismatchError(
        f"{request.method} {request.path}: the answer {be} to another request: {path} {what}.",
        paths=[path],
        said=said,
    )
