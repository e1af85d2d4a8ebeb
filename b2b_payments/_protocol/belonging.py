"""Whether an answer belongs to its request, as far as the answer names what it is about.

Proxies can swap answers, and one that arrives late or twice on a reused connection is mistaken for the next.
So each answer is checked against its request: the id in the path, a page's offset, the store, and whether it
is a list's answer at all. A missing value is no mismatch. `Request.named_at` has the fields that name its id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from b2b_payments._errors import AnswerMismatchError
from b2b_payments._models.decimals import whole_of
from b2b_payments._protocol.request import UNPAGED_LISTS, Request
from b2b_payments._retry import Effect

_CREATE = "payments.create_offline"
OF_ROWS = "$.data[]"
"""The rows of a page, as the path of a mismatch names them."""
OF_PAGE = "$.meta.pagination.offset"
OF_TOTAL = "$.meta.pagination.totalCount"
"""Shows that an offset beyond the total is reported as the total, though rows are returned."""
OF_STORE = "$..storeHash"
"""The store of payments, in any answer."""
_OPERATIONS = ("allowedOperations", "allowedStatuses")


def check_envelope(request: Request, data: Any, meta: Mapping[str, Any]) -> None:
    """Raise AnswerMismatchError if an answer, other than a list of payments, belongs to another request."""
    pagination = meta.get("pagination")
    is_single = request.call == _CREATE or (request.about is not None and bool(request.named_at))
    if (is_single or request.call in UNPAGED_LISTS) and isinstance(pagination, dict):
        value = [whole_of(pagination.get(name)) for name in ("offset", "totalCount")]
        refuse(request, "$.meta.pagination", "is that of a list", None if _are_payments(data) else value)
    # Not if empty: some services write an object without fields as an empty list, and vice versa.
    if is_single and isinstance(data, list) and any(isinstance(one, dict) for one in data):
        raise _error(request, "$.data", "is a list")
    if request.call in UNPAGED_LISTS and isinstance(data, dict) and data:
        raise _error(request, "$.data", "is not a list")
    if request.call.startswith("channels.") and _are_payments(data):  # a payment has a channelId, too
        raise _error(request, "$.data", "holds payments")
    if not isinstance(data, dict):
        return
    check_stores(request, [data.get("storeHash")])
    if (about := request.about) is not None:
        for name in request.named_at:
            if (named := whole_of(data.get(name))) not in (None, about):
                refuse(request, f"$.data.{name}", f"is {named}, not {about}", named)
    if (missing := _missing(request, data)) is not None:
        raise _error(request, f"$.data.{missing}", "is missing, while other fields are present")


def check_page(
    request: Request, offset: int, named: int | None, total: int | None, rows: Sequence[Any]
) -> None:
    """Raise AnswerMismatchError if a list's answer is another page, or does not list payments.

    `offset` is the requested one, `named` the one in the answer, None if it has none.
    """
    is_clamped = named == total and 0 < (total or 0) < offset
    if is_clamped and rows:
        refuse(request, OF_TOTAL, f"is {named}, and so is the offset, not {offset}", named)
    elif named is not None and named != offset and not is_clamped:
        refuse(request, OF_PAGE, f"is {named}, not {offset}", named)
    if rows and rows[0].id is None:
        raise _error(request, "$.data[0].id", "is missing, while other fields are present")


def check_stores(request: Request, hashes: Iterable[object]) -> set[str]:
    """Return the stores that payments name. Raises AnswerMismatchError if one is not the request's store."""
    stores = {store for store in hashes if type(store) is str and store}
    others = stores - {request.store} if request.store else stores if len(stores) > 1 else None
    if others and OF_STORE not in request.ignored:
        refuse(request, OF_STORE, "is another store's", sorted(others))
    return stores


def check_proof(request: Request, data: Any) -> None:
    """Raise AnswerMismatchError if a write's answer does not name its payment, and so proves nothing."""
    ids = [data.get(name) for name in request.named_at] if isinstance(data, dict) else []
    if request.about is not None and request.about not in map(whole_of, ids):
        raise _error(request, "$.data.id", "is missing, and answers were mixed up recently", "may belong")


def _missing(request: Request, data: Mapping[str, Any]) -> str | None:
    """Return the missing field that shows that another endpoint answered; None if nothing shows that."""
    has_id = "id" in data or "paymentId" in data
    has_operations = any(name in data for name in _OPERATIONS)
    if request.call == _CREATE:
        return "paymentId" if data and "paymentId" not in data else None
    if request.is_by_id:
        return next((name for name in request.named_at if name not in data), None)
    if request.call == "payments.operations":
        return None if has_operations else _OPERATIONS[0]
    if request.effect is not Effect.READ:
        return "id" if has_operations and not has_id else None
    return None


def _are_payments(data: Any) -> bool:
    rows = data if isinstance(data, list) else [data]
    return any(isinstance(row, dict) and "moduleName" in row for row in rows)


def refuse(request: Request, path: str, what: str, value: object, *, in_part: bool = False) -> None:
    """Raise AnswerMismatchError for a value, unless the service is known to return it for every request.

    `in_part` says that some of the answer's payments match the request.
    """
    # A thing requested by its id must name that id, and a write's answer its payment, without exception.
    is_its_own_id = request.is_by_id and path.startswith("$.data.")
    may_be_constant = value is not None and request.effect is Effect.READ and not is_its_own_id
    if not may_be_constant:
        raise _error(request, path, what)
    if path not in request.ignored:
        failure = _error(request, path, what, said=f"{path}: {value}")
        failure.in_part = in_part
        raise failure


def _error(
    request: Request, path: str, what: str, verb: str = "belongs", *, said: str | None = None
) -> AnswerMismatchError:
    return AnswerMismatchError(
        f"{request.method} {request.path}: the answer {verb} to another request: {path} {what}.",
        paths=[path],
        said=said,
    )
