"""Findings about the payments: unreadable ones, unknown fields and codes, formats, lag of the list."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from b2b_payments._auth import StoreAuth
from b2b_payments._converter import structure_list, structure_payment
from b2b_payments._doctor.evidence import Evidence, Row, channel_of, times_of
from b2b_payments._doctor.finding import Finding, fine, note, problem, unknown
from b2b_payments._errors import NotFoundError, ResponseDecodeError
from b2b_payments._models import Channel, Operation, ProcessingStatus
from b2b_payments._models.decimals import whole_of
from b2b_payments._printable import counted

_REPORTED_FIELDS = frozenset({"bcId", "bcGroupName", "customerBcId"})
"""Undocumented fields that others have reported."""
_is_plain_name = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}", re.ASCII).fullmatch
_MAX_NAMES = 12
_LARGEST_CODE = 999
_A_DAY = 86_400.0
_RECENT = 20 * 60.0  # seconds for which lists were reported to lag
_MAINTAINERS = "Send the report of --json to the maintainers; it holds no personal data."


def unreadable(evidence: Evidence) -> Finding:
    """Find the payments and channels that the models cannot read, and why."""
    rows, reasons, broken = evidence.rows, Counter[str](), 0
    for row in rows:
        try:
            structure_payment(row)
        except ResponseDecodeError as error:
            broken += 1
            reasons[_reason(error)] += 1
    try:
        structure_list(Channel, evidence.get("channels").data or [])
    except ResponseDecodeError as error:
        broken += 1
        reasons[f"in a channel, {_reason(error)}"] += 1
    if not rows:
        return unknown("No payments were received.")
    if not broken:
        seen = f"All payments that were received can be read ({counted(len(rows), 'payment')})."
        return fine("none", seen)
    why = "; ".join(f"{reason} ({times:,})" for reason, times in reasons.most_common(_MAX_NAMES))
    return problem(
        "some",
        f"Of {counted(len(rows), 'payment')} and the channels, {broken:,} cannot be read: {why}.",
        "Iterating over a walk raises ResponseDecodeError there; walk.raw() and jsonl exports include them.",
        _MAINTAINERS,
    )


def _reason(error: ResponseDecodeError) -> str:
    """Return the path and the reason, without indexes of lists: items of a list share the same fault."""
    sentence = error.message.partition("; ")[0].rstrip(".")
    return re.sub(r"\[[0-9]+\]", "[]", sentence).replace("$.data", "$")


def unknown_fields(evidence: Evidence) -> Finding:
    """Find the fields that the models do not know."""
    names = Counter[str]()
    for row in evidence.rows:
        names.update(_unknown_in(row))
    for name in _REPORTED_FIELDS:
        names.pop(name, None)
    if not evidence.rows:
        return unknown("No payments were received.")
    if not names:
        return fine("none", "Payments have known fields only.")
    plain = sorted(name for name in names if _is_plain_name(name.rpartition(".")[2]))
    others = len(names) - len(plain)
    listed = [*plain[:_MAX_NAMES], *([f"{others} with unusual names"] if others else [])]
    more = len(plain) - len(plain[:_MAX_NAMES])
    return note(
        "some",
        f"Payments have unknown fields: {', '.join(listed)}{f' and {more} more' if more else ''}.",
        "They are kept in payment.extra, in the column `extra`, and in jsonl exports.",
        _MAINTAINERS,
    )


def _unknown_in(row: Row) -> Iterator[str]:
    try:
        payment = structure_payment(row)
    except ResponseDecodeError:
        return
    yield from payment.extra
    yield from (f"total.{name}" for name in payment.total.extra)
    for prefix, parts in (("lineItems", payment.line_items), ("fees", payment.fees)):
        yield from {f"{prefix}.{name}" for part in parts for name in part.extra}


def unknown_values(evidence: Evidence) -> Finding:
    """Find undocumented codes."""
    codes = Counter[str]()
    for row in evidence.rows:
        codes.update(_undocumented_codes(row))
    if not evidence.rows:
        return unknown("No payments were received.")
    if not codes:
        return fine("none", "All statuses and operations are documented.")
    return note(
        "some",
        f"Payments have undocumented codes: {', '.join(sorted(codes)[:_MAX_NAMES])}.",
        "They are plain numbers, as in payment.processing_status == 7.",
        _MAINTAINERS,
    )


def _undocumented_codes(row: Row) -> Iterator[str]:
    known: dict[str, Iterable[int]] = {
        "processingStatus": ProcessingStatus,
        "appliedStatus": range(2),
        "fundingStatus": range(4),
        "allowedStatuses": ProcessingStatus,
        "allowedOperations": [*Operation, 3],
    }
    for name, codes in known.items():
        value = row.get(name)
        for code in {whole_of(one) for one in (value if isinstance(value, list) else [value])}:
            if code is not None and code not in {int(one) for one in codes}:
                yield f"{name} {code if code <= _LARGEST_CODE else f'over {_LARGEST_CODE}'}"


def data_formats(evidence: Evidence) -> Finding:
    """Find which of the documented formats payments have."""
    rows = evidence.rows
    if not rows:
        return unknown("No payments were received.")
    formats = sorted({name for row in rows for name in _formats_in(row)})
    if not formats:
        return fine("as documented", "Payments have the format of the newer documentation.")
    seen = f"Payments have {', '.join(formats)}."
    means = "This library reads all of these formats; jsonl exports keep them as received."
    return fine(", ".join(formats), seen, means)


def _formats_in(row: Row) -> Iterator[str]:
    if isinstance(row.get("id"), str):
        yield "ids in text"
    fees = row.get("fees")
    for fee in fees if isinstance(fees, list) else []:
        yield "fees as objects" if isinstance(fee, dict) else "fees as numbers"
    if isinstance(fees, dict) or isinstance(row.get("details"), list):
        yield "empty lists and objects exchanged"
    items: Any = row.get("lineItems")
    if isinstance(items, list) and any(isinstance(item, dict) and "amount" not in item for item in items):
        yield "line items without amounts"
    if not {"fees", "details", "moduleData"} <= row.keys():
        yield "fields left out of lists"


def store(evidence: Evidence) -> Finding:
    """Compare the store named in payments with the credential's."""
    stores = {row.get("storeHash") for row in evidence.rows if row.get("storeHash")}
    if not stores or not isinstance(evidence.auth, StoreAuth):
        return unknown("The payments or the credential name no store.")
    if stores == {evidence.auth.store_hash}:
        return fine("the credential's", "Payments name the store of the credential.")
    return problem(
        "another",
        "Payments name a different store than the credential.",
        "A payment of another store is requested again, not returned, unless every answer names that store.",
        "Check B2B_PAYMENTS_STORE_HASH; if it is right, the token belongs to another store.",
    )


def lag(evidence: Evidence) -> Finding:
    """Find whether lists lag behind, as far as the latest payments show it."""
    last, newest, after = map(evidence.get, ("last", "newest", "next"))
    now = last.date or datetime.now(UTC)
    shown = {channel_of(row) for row in evidence.unfiltered_rows}
    if after.is_success and isinstance(after.data, dict) and channel_of(after.data) in shown:
        seen = "A payment that is newer than the whole list can be read by its id."
        return _lag_finding(seen, after.data, now)
    listed = {whole_of(row.get("id")): row for row in evidence.unfiltered_rows}
    payment = newest.data if newest.is_success and isinstance(newest.data, dict) else {}
    row = listed.get(whole_of(payment.get("id")))
    current, in_list = whole_of(payment.get("updatedAt")), whole_of((row or {}).get("updatedAt"))
    if current is not None and in_list is not None and current > in_list:
        seen = "The newest payment has a later updatedAt when read by its id than in the list."
        return _lag_finding(seen, payment, now)
    latest = max(filter(None, times_of(evidence.unfiltered_rows, "updatedAt")), default=None)
    if latest is None or now.timestamp() - latest > _RECENT:
        return unknown("No payment was created or updated in the last 20 minutes, so a lag would not show.")
    if not isinstance(after.failure, NotFoundError) or not newest.is_success:
        return unknown("The newest payment could not be read by its id.")
    return fine(
        "not seen", "The list has the same version of the latest payment as reading it by its id returns."
    )


def _lag_finding(seen: str, payment: Row, now: datetime) -> Finding:
    written = whole_of(payment.get("updatedAt"))
    age = now.timestamp() - written if written is not None else 0.0
    means = "Recent changes may be missing from lists, although the payments can be read by their ids."
    if age > _A_DAY:
        means = "Lists omit payments, so walks cannot return them; a copy keeps the versions it has."
        seen = f"{seen} It was written more than a day ago."
        advice = "Ask the vendor why the list omits it; it may be outside of this token's scope."
        return problem("left out", seen, means, advice)
    advice = "Set sync --overlap MINUTES to more than the lag; the default is 30."
    return note("seen", f"{seen} It was written {max(0, age):,.0f} s ago.", means, advice)


def by_id(evidence: Evidence) -> Finding:
    """Find whether payments can be read by their ids."""
    newest = evidence.get("newest")
    if newest.is_success:
        return fine("works", "A payment from the list can be read by its id.")
    if newest.status is None:
        return unknown("No payment was requested by its id, or the request failed.")
    return problem(
        f"refused {newest.status}",
        f"The service answers the request for a listed payment by its id with status {newest.status}.",
        "get() and most writes fail. A sweep deletes nothing, since deleted payments cannot be recognized.",
        "Give the API account the scope for payments.",
    )
