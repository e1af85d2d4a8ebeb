"""Findings about the list of payments: pages, order, totals, and how far it can be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from b2b_payments._doctor.evidence import Evidence, Observation, times_of
from b2b_payments._doctor.finding import Finding, fine, note, problem, unknown
from b2b_payments._doctor.questions import FULL, LARGER
from b2b_payments._printable import counted

_SLACK = 3  # payments may be created or deleted while this runs
_SLACK_SHARE = 0.01


def page_size(evidence: Evidence) -> Finding:
    """Find the largest page."""
    first, larger = evidence.get("first"), evidence.get("larger")
    size = first.requested("limit") or FULL
    if not first.is_success:
        return unknown("Pages of 250 rows are refused, and smaller ones too.")
    longest = max(len(first.rows), len(larger.rows))
    if size < FULL:
        return note(
            f"{size}, more refused",
            f"Pages of {FULL} rows are refused (413), pages of {size} rows are not.",
            "Each new client spends a few requests to find that out.",
            f"Set page_size={size}, or --page-size {size}.",
        )
    if not _has_more(evidence, first):
        return unknown(f"The list is too short to tell: it has {counted(longest, 'row')}.")
    if longest > FULL:
        return note(
            str(longest) if longest < LARGER and _has_more(evidence, larger) else f"{longest} or more",
            f"A request for {LARGER} rows returns a page of {longest}.",
            f"Walks can take {FULL / longest:.0%} of the requests that they take with pages of {FULL} rows.",
            f"Set page_size={longest}, or --page-size {longest}.",
        )
    if short := sorted({len(one.rows) for one in _full_pages(evidence)} - {longest}):
        return note(
            "short pages",
            f"Pages have {short[0]} to {longest} rows, even if more rows follow.",
            "Walks advance by the rows received, never by the rows requested, so they miss nothing.",
        )
    if longest < FULL:
        times = f"{FULL / longest:.2g} times"
        means = f"A walk takes {times} as many requests as with pages of {FULL} rows."
        seen = f"A page holds {longest} rows at most, no matter how many are requested."
        return note(str(longest), seen, means, f"Set page_size={longest}, or --page-size {longest}.")
    refused = ", and larger pages are refused" if larger.status == 413 else ""
    return fine("250", f"A page holds {FULL} rows{refused}.")


def _full_pages(evidence: Evidence) -> Iterable[Observation]:
    """Return the pages for which at least the page size was requested, and after which more rows follow."""
    return [
        one
        for name in ("first", "again", "larger", "last", "updated")
        if (one := evidence.get(name)).is_success and one.rows
    ]


def _has_more(evidence: Evidence, first: Observation) -> bool:
    """Whether the list has rows that are not on its first page."""
    shown = {*first.ids}
    return any({*evidence.get(name).ids} - shown for name in ("tail", "last", "beyond", "updated"))


def stated_limit(evidence: Evidence) -> Finding:
    """Find which `limit` the pagination of responses states."""
    larger, first = evidence.get("larger"), evidence.get("first")
    if first.rows and not larger.is_success and first.stated("limit") == len(first.rows):
        return fine("as used", "Responses state the limit that the service used.")
    if not larger.is_success or not larger.rows:
        return unknown("No rows were received for a limit that may exceed the page size.")
    limit, rows = larger.stated("limit"), len(larger.rows)
    if limit is None:
        seen, means = "Responses do not state a limit.", "Walks count the rows received."
        return note("absent", seen, means)
    if limit == LARGER and rows < LARGER and _has_more(evidence, larger):
        seen = f"Responses state the requested limit ({LARGER}), not the one that the service used."
        return note("as asked", seen, "Walks count the rows received.")
    return fine("as used", "Responses state the limit that the service used.")


def default_page(evidence: Evidence) -> Finding:
    """Find how many rows are returned without parameters, and in which order."""
    plain = evidence.get("plain")
    if len(plain.rows) < 2:
        return unknown("There are too few payments to recognize an order.")
    orders = {"up": "oldest first", "down": "newest first"}
    direction = orders.get(_direction(plain.created) or "", "in no order of createdAt")
    return fine(
        direction,
        f"Without parameters, the service returns {counted(len(plain.rows), 'row')}, {direction}.",
        "This library always sends a limit and an order.",
    )


def order(evidence: Evidence) -> Finding:
    """Find whether the service applies sortBy and orderBy."""
    first, last, updated = map(evidence.get, ("first", "last", "updated"))
    up, down = _direction(first.created), _direction(last.created)
    if up is None and down is None:
        return unknown("Too few payments were created in different seconds.")
    if up == down or (first.ids and first.ids == last.ids and len(first.ids) > 1):
        return problem(
            "orderBy ignored",
            f"The list is sorted {'oldest' if up == 'up' else 'newest'} first, whatever orderBy says.",
            "No walk can prove from the list's other end that it has all payments, so none is reported as "
            "complete, and a sweep deletes nothing.",
            "Compare counts with the control panel. Exports exit with 1 only because this proof is missing.",
        )
    if (up, down) != ("up", "down"):
        return problem(
            "createdAt ignored",
            "The list is not sorted by createdAt, although this is requested.",
            "Walks cannot tell whether pages join, so they are never reported as complete.",
            "Send the report of --json to the maintainers.",
        )
    if _direction(times_of(updated.rows, "updatedAt")) not in {"down", None}:
        return problem(
            "sortBy ignored",
            "The list can be sorted by createdAt, but not by updatedAt.",
            "Exports are exact, but a sync would miss updates of older payments.",
            "Use sync --sweep, which reads the whole store each time.",
        )
    seen = "The list can be sorted by createdAt and updatedAt, in both directions."
    return fine("heeded", seen)


def _direction(times: Sequence[int | None]) -> str | None:
    """Return "up", "down" or "mixed", or None if all times are equal."""
    known = [one for one in times if one is not None]
    steps = {(after > before) - (after < before) for before, after in pairwise(known)} - {0}
    return {(1,): "up", (-1,): "down", (): None}.get(tuple(steps), "mixed")


def order_among_equals(evidence: Evidence) -> Finding:
    """Find the order of payments that were created in the same second."""
    first, again, last, tail, larger = map(evidence.get, ("first", "again", "last", "tail", "larger"))
    same = [_same_order(one, other) for one, other in ((first, again), (first, larger), (tail, larger))]
    turned = _direction(first.created) != _direction(last.created)
    opposite = [_same_order(one, last) for one in (first, tail) if turned]
    if not any(is_same is not None for is_same in (*same, *opposite)):
        return unknown("No two payments created in the same second were returned twice.")
    if False in same:
        return note(
            "shuffled",
            "Payments created in the same second are in a different order in each response.",
            "Walks let pages overlap by all payments of a second: none is missed or returned twice.",
        )
    if True in opposite:
        return note(
            "one way",
            "Payments created in the same second are in the same order for ASC and DESC.",
            "Walks do not rely on this order.",
        )
    return fine("stable", "Payments created in the same second keep their order.")


def _same_order(one: Observation, other: Observation) -> bool | None:
    """Whether two pages have the payments of each second in the same order; None if they share none."""
    place = {payment_id: index for index, payment_id in enumerate(other.ids)}
    pairs = [
        place[before[0]] < place[after[0]]
        for before, after in pairwise(zip(one.ids, one.created, strict=True))
        if before[1] == after[1] and before[0] in place and after[0] in place
    ]
    return all(pairs) if pairs else None


def offset(evidence: Evidence) -> Finding:
    """Find whether the service applies offset and limit, and which offset its responses state."""
    first, one, beyond = map(evidence.get, ("first", "one", "beyond"))
    if not one.is_success or len({*first.created}) < 2:
        return unknown("There are too few payments to tell.")
    advice = "Send the report of --json to the maintainers: walks cannot work with this service."
    if len(one.rows) > 1:
        seen = "A request for one row returns more than one."
        return note("limit ignored", seen, "Walks advance by the rows received.")
    if _ignores_offset(first, one):
        seen, means = "Every offset returns the list from its first row.", "Only the first page can be read."
        return problem("offset ignored", seen, means, advice)
    requested, stated = beyond.requested("offset"), beyond.stated("offset")
    differing = [(page.requested("offset"), page.stated("offset")) for page in evidence.pages]
    differing = [(offset, stated) for offset, stated in differing if offset and stated != offset]
    if beyond.is_success and stated is not None and stated == beyond.total != requested:
        seen, means = "For an offset after the end, responses state the total.", "This library accepts that."
        return note("stated up to the total", seen, means)
    if differing:
        absent = {stated for _, stated in differing} == {None}
        seen = f"Responses state {'no offset' if absent else 'an offset that was not requested'}."
        means = "A response to another request cannot be recognized by its offset; rows are still compared."
        return note("not stated" if absent else "stated otherwise", seen, means)
    return fine("heeded", "The service applies offset and limit, and responses state the requested offset.")


def _ignores_offset(page: Observation, one: Observation) -> bool:
    return one.created == page.created[:1] and len(page.created) > 1 and page.created[0] != page.created[1]


def totals(evidence: Evidence) -> Finding:
    """Find what the totals of the unfiltered list count."""
    pages = [one for one in evidence.pages if one.rows]
    stated = [(one.total, len(one.rows)) for one in pages if one.total is not None]
    means = "A walk is complete if the list's other end proves it, whatever the total; estimates may be off."
    if not pages:
        return unknown("No payments were received.")
    if not stated:
        means = "A running walk does not know how much is left, and walk.count() is not available."
        return note("absent", "Responses state no total.", means)
    most, least = max(total for total, _ in stated), min(total for total, _ in stated)
    lengths = {rows for _, rows in stated}
    if len(lengths) > 1 and all(total == rows for total, rows in stated):
        return note("of the page", "The total is the number of rows on the page.", means)
    if most - least > max(_SLACK, _SLACK_SHARE * most):
        seen = f"The total varies between responses, from {least:,} to {most:,}."
        return note("wandering", seen, means)
    beyond = evidence.get("beyond").rows and not _ignores_offset(evidence.get("first"), evidence.get("one"))
    tail, last = evidence.get("tail"), evidence.get("last")
    hides = _ends_early(evidence) and _end_of(tail) >= most
    if beyond or hides or any(rows > total for total, rows in stated):
        seen = f"The total is {most:,}, but there are more payments."
        return note("too small", seen, means)
    end = _end_of(tail)
    if last.ids[:1] and last.ids[0] in tail.ids and most - end > max(_SLACK, _SLACK_SHARE * most):
        seen = f"The total is {most:,}, but the newest payment is row {end:,}."
        return note("too large", seen, means)
    return fine("of the list", "The total is the number of rows in the list.")


def paging_window(evidence: Evidence) -> Finding:
    """Find up to which offset the list can be read."""
    first, tail, total = evidence.get("first"), evidence.get("tail"), evidence.total
    if not first.rows:
        return unknown("No payments were received.")
    if total is None or (total > len(first.rows) and not tail.is_success):
        return unknown("The end of the list could not be requested.")
    has_row = {int(at): bool(one.rows) for at, one in evidence.by_prefix("at ").items() if one.is_success}
    end = _end_of(tail)
    if not _ends_early(evidence) and (tail.rows or total <= len(first.rows)):
        if totals(evidence).verdict in {"too small", "of the page"}:
            return unknown("The total does not say where the list ends.")
        return fine("none", "The list can be read up to its end.")
    shown = end - 1 if tail.rows else len(first.rows) - 1
    shown = max([shown, *(at for at, is_row in has_row.items() if is_row)])
    empty = min([end, *(at for at, is_row in has_row.items() if not is_row)])
    exact = empty == shown + 1
    where = f"row {empty:,}" if exact else f"a row between {shown + 1:,} and {empty:,}"
    most = 2 * (shown + 1)
    knows_total = total > empty
    enough = knows_total and total <= most
    though = f"although the total is {total:,}" if knows_total else "although there are newer payments"
    longer = "this list is longer, and is" if knows_total else "longer lists are"
    return (note if enough else problem)(
        f"{empty}" if exact else f"{shown + 1} to {empty}",
        f"The service returns no rows after {where}, {though}.",
        f"Walks read from both ends, so lists of up to {most:,} payments are read completely"
        f"{'' if enough else f'; {longer} reported as not complete'}.",
        "" if enough else "Read shorter parts: filter by channel_ids, processing_status or dates.",
    )


def _end_of(tail: Observation) -> int:
    """Return the offset after the last row of a page."""
    return (tail.requested("offset") or 0) + len(tail.rows)


def _ends_early(evidence: Evidence) -> bool:
    """Whether no rows follow the tail page, although the newest payment is not on it."""
    first, last, tail = map(evidence.get, ("first", "last", "tail"))
    after = evidence.by_name.get(f"at {_end_of(tail)}")
    is_empty = after is not None and after.is_success and not after.rows
    turned = _direction(first.created) != _direction(last.created)
    return bool(tail.rows and is_empty and turned and last.ids[:1] and last.ids[0] not in tail.ids)
