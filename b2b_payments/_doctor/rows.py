"""Findings on the payments themselves: what cannot be read, what is unknown, how things are spelled, lag."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from b2b_payments._auth import StoreAuth
from b2b_payments._converter import structure_list, structure_payment
from b2b_payments._doctor.evidence import Evidence, Row, channel_of, moments
from b2b_payments._doctor.finding import Finding, fine, note, problem, unknown
from b2b_payments._errors import NotFoundError, ResponseDecodeError
from b2b_payments._models import Channel, Operation, ProcessingStatus
from b2b_payments._models.decimals import whole_of
from b2b_payments._printable import counted

_SEEN_ELSEWHERE = frozenset({"bcId", "bcGroupName", "customerBcId"})
"""Fields beyond the documented ones that others have reported."""
_is_plain_name = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}", re.ASCII).fullmatch
_MOST_NAMED = 12
_LARGEST_CODE = 999
_A_DAY = 86_400.0
_RECENT = 20 * 60.0  # seconds for which lists were reported to lag
_MAINTAINERS = "Send the report of --json to the maintainers; it holds no personal data."


def unreadable(evidence: Evidence) -> Finding:
    """Say which payments and channels the models cannot read, and why."""
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
        reasons[f"of a channel, {_reason(error)}"] += 1
    if not rows:
        return unknown("No payments came.")
    if not broken:
        seen = f"All of {counted(len(rows), 'payment')} seen can be read."
        return fine("none", seen)
    why = "; ".join(f"{reason} ({times:,})" for reason, times in reasons.most_common(_MOST_NAMED))
    return problem(
        "some",
        f"Of {counted(len(rows), 'payment')} and the channels, {broken:,} cannot be read: {why}.",
        "Iterating over a walk raises ResponseDecodeError there; walk.raw() and exports as jsonl give them.",
        _MAINTAINERS,
    )


def _reason(error: ResponseDecodeError) -> str:
    """Say where and why, without the place in a list: it is the same fault in each of its items."""
    sentence = error.message.partition("; ")[0].rstrip(".")
    return re.sub(r"\[[0-9]+\]", "[]", sentence).replace("$.data", "$")


def unknown_fields(evidence: Evidence) -> Finding:
    """Say which fields the models do not know."""
    names = Counter[str]()
    for row in evidence.rows:
        names.update(_unknown_in(row))
    for name in _SEEN_ELSEWHERE:
        names.pop(name, None)
    if not evidence.rows:
        return unknown("No payments came.")
    if not names:
        return fine("none", "Payments have no fields but the known ones.")
    plain = sorted(name for name in names if _is_plain_name(name.rpartition(".")[2]))
    others = len(names) - len(plain)
    listed = [*plain[:_MOST_NAMED], *([f"{others} with unusual names"] if others else [])]
    more = len(plain) - len(plain[:_MOST_NAMED])
    return note(
        "some",
        f"Beyond the known fields there are {', '.join(listed)}{f' and {more} more' if more else ''}.",
        "They are kept: payment.extra, the column extra, and every byte of a jsonl export.",
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
    """Say which codes nobody documents."""
    odd = Counter[str]()
    for row in evidence.rows:
        odd.update(_odd_codes(row))
    if not evidence.rows:
        return unknown("No payments came.")
    if not odd:
        return fine("none", "All statuses and operations are documented ones.")
    return note(
        "some",
        f"Codes that nobody documents: {', '.join(sorted(odd)[:_MOST_NAMED])}.",
        "They come through as plain numbers: payment.processing_status == 7, say.",
        _MAINTAINERS,
    )


def _odd_codes(row: Row) -> Iterator[str]:
    known: dict[str, Iterable[int]] = {
        "processingStatus": ProcessingStatus,
        "appliedStatus": range(2),
        "fundingStatus": range(4),
        "allowedStatuses": ProcessingStatus,
        "allowedOperations": [*Operation, 3],
    }
    for name, codes in known.items():
        found = row.get(name)
        for code in {whole_of(one) for one in (found if isinstance(found, list) else [found])}:
            if code is not None and code not in {int(one) for one in codes}:
                yield f"{name} {code if code <= _LARGEST_CODE else f'over {_LARGEST_CODE}'}"


def spellings(evidence: Evidence) -> Finding:
    """Say in which of the documented ways things are spelled."""
    rows = evidence.rows
    if not rows:
        return unknown("No payments came.")
    found = sorted({what for row in rows for what in _spellings(row)})
    if not found:
        return fine("as documented", "Payments are spelled as the newer documents say.")
    seen = f"Payments have {', '.join(found)}."
    means = "All of these are read alike; an export as jsonl keeps them as they come."
    return fine(", ".join(found), seen, means)


def _spellings(row: Row) -> Iterator[str]:
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
    """Compare the store that payments name with the credential's."""
    named = {row.get("storeHash") for row in evidence.rows if row.get("storeHash")}
    if not named or not isinstance(evidence.auth, StoreAuth):
        return unknown("The credential, or no payment, names a store.")
    if named == {evidence.auth.store_hash}:
        return fine("the credential's", "Payments name the store of the credential.")
    return problem(
        "another",
        "Payments name another store than the credential does.",
        "A payment of another store is asked for again and not given, until the service says it each time.",
        "Check B2B_PAYMENTS_STORE_HASH; if it is right, the token is of another store.",
    )


def lag(evidence: Evidence) -> Finding:
    """Say whether lists lag, as far as the latest payments show it."""
    last, newest, after = map(evidence.get, ("last", "newest", "next"))
    now = last.date or datetime.now(UTC)
    shown = {channel_of(row) for row in evidence.whole}
    if after.is_success and isinstance(after.data, dict) and channel_of(after.data) in shown:
        seen = "A payment newer than all in the list can be read by its id."
        return _lags(seen, after.data, now)
    listed = {str(row.get("id")): row for row in evidence.whole}
    one = newest.data if newest.is_success and isinstance(newest.data, dict) else {}
    row = listed.get(str(one.get("id")))
    mine, theirs = whole_of(one.get("updatedAt")), whole_of((row or {}).get("updatedAt"))
    if mine is not None and theirs is not None and mine > theirs:
        seen = "The newest payment was updated later, by its id, than the list shows."
        return _lags(seen, one, now)
    latest = max(filter(None, moments(evidence.whole, "updatedAt")), default=None)
    if latest is None or now.timestamp() - latest > _RECENT:
        return unknown("No payment was written in the last 20 minutes, so nothing shows it.")
    if not isinstance(after.failure, NotFoundError) or not newest.is_success:
        return unknown("The newest payment could not be read by its id.")
    return fine("not seen", "The list shows the latest payment as it is by its id.")


def _lags(seen: str, payment: Row, now: datetime) -> Finding:
    written = whole_of(payment.get("updatedAt"))
    age = now.timestamp() - written if written is not None else 0.0
    means = "What was written lately may be missing from lists, though it can be read by its id."
    if age > _A_DAY:
        means = "Lists leave payments out, and no walk can give those; a copy keeps what it has of them."
        seen = f"{seen} It was written more than a day ago."
        advice = "Ask the vendor why the list does not show it; it may be out of this token's scope."
        return problem("left out", seen, means, advice)
    advice = "sync --overlap MINUTES, longer than the lag; 30 is the default."
    return note("seen", f"{seen} It was written {max(0, age):,.0f} s ago.", means, advice)


def by_id(evidence: Evidence) -> Finding:
    """Say whether payments can be read by their ids."""
    newest = evidence.get("newest")
    if newest.is_success:
        return fine("works", "A payment that the list shows can be read by its id.")
    if newest.status is None:
        return unknown("No payment was asked for by its id, or none was answered.")
    return problem(
        f"refused {newest.status}",
        f"A payment that the list shows is answered {newest.status} by its id.",
        "No payment is taken for deleted: a sweep deletes nothing. get() and most writes fail.",
        "Give the API account the scope for payments.",
    )
