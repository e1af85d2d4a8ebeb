"""Findings on the list of payments: pages, order, totals, how far it can be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from b2b_payments._doctor.evidence import Evidence, Seen, moments
from b2b_payments._doctor.finding import Finding, fine, note, problem, unknown
from b2b_payments._doctor.questions import FULL, LARGER
from b2b_payments._printable import counted

_FEW = 3  # payments may be created or deleted while this runs
_PART = 0.01


def page_size(evidence: Evidence) -> Finding:
    """Say how many rows a page holds at most."""
    first, larger = evidence.get("first"), evidence.get("larger")
    asked = first.parameter("limit") or FULL
    if not first.is_success:
        return unknown("Pages of 250 rows and of fewer are refused.")
    longest = max(len(first.rows), len(larger.rows))
    if asked < FULL:
        return note(
            f"{asked}, more refused",
            f"Pages of {FULL} rows are refused (413), pages of {asked} are not.",
            "Each new client has to find that out, at some requests.",
            f"page_size={asked}, or --page-size {asked}",
        )
    if not _goes_on(evidence, first):
        return unknown(f"The list is too short to tell: {counted(longest, 'row')}.")
    if longest > FULL:
        return note(
            str(longest) if longest < LARGER and _goes_on(evidence, larger) else f"{longest} or more",
            f"Pages of {longest} rows come where {LARGER} are asked for.",
            f"A walk can take {FULL / longest:.0%} of the requests that pages of {FULL} take.",
            f"page_size={longest}, or --page-size {longest}",
        )
    if short := sorted({len(one.rows) for one in _full_pages(evidence)} - {longest}):
        return note(
            "short pages",
            f"Pages hold {short[0]} to {longest} rows, though more follow.",
            "Walks advance by the rows that come, never by the rows asked for: nothing is missed.",
        )
    if longest < FULL:
        times = f"{FULL / longest:.2g} times"
        means = f"A walk takes {times} the requests that pages of {FULL} would take."
        seen = f"A page holds {longest} rows at most, however many are asked for."
        return note(str(longest), seen, means, f"page_size={longest}, or --page-size {longest}")
    refused = ", and more is refused" if larger.status == 413 else ""
    return fine("250", f"A page holds {FULL} rows{refused}.")


def _full_pages(evidence: Evidence) -> Iterable[Seen]:
    """Return the pages of at least as many rows as `first` asked for, behind which more rows follow."""
    return [
        one
        for name in ("first", "again", "larger", "last", "updated")
        if (one := evidence.get(name)).is_success and one.rows
    ]


def _goes_on(evidence: Evidence, first: Seen) -> bool:
    """Whether the list holds more than its first page."""
    shown = {*first.ids}
    return any({*evidence.get(name).ids} - shown for name in ("tail", "last", "beyond", "updated"))


def stated_limit(evidence: Evidence) -> Finding:
    """Say which limit the answers state."""
    larger, first = evidence.get("larger"), evidence.get("first")
    if first.rows and not larger.is_success and first.said("limit") == len(first.rows):
        return fine("as used", "Answers state the limit that they used.")
    if not larger.is_success or not larger.rows:
        return unknown("Nothing came to a limit that may be more than is given.")
    said, rows = larger.said("limit"), len(larger.rows)
    if said is None:
        seen, means = "Answers do not state their limit.", "Walks count the rows that come."
        return note("absent", seen, means)
    if said == LARGER and rows < LARGER and _goes_on(evidence, larger):
        seen = f"Answers state the limit that was asked for ({LARGER}), not the one used."
        return note("as asked", seen, "Walks count the rows that come.")
    return fine("as used", "Answers state the limit that they used.")


def default_page(evidence: Evidence) -> Finding:
    """Say what comes without parameters."""
    plain = evidence.get("plain")
    if len(plain.rows) < 2:
        return unknown("There are too few payments to tell an order.")
    ways = {"up": "oldest first", "down": "newest first"}
    way = ways.get(_way(plain.times) or "", "in no order of createdAt")
    return fine(
        way,
        f"Without parameters, {counted(len(plain.rows), 'row')} come, {way}.",
        "This library always says how many it wants and in which order.",
    )


def order(evidence: Evidence) -> Finding:
    """Say whether sortBy and orderBy are heeded."""
    first, last, updated = map(evidence.get, ("first", "last", "updated"))
    up, down = _way(first.times), _way(last.times)
    if up is None and down is None:
        return unknown("There are too few payments of different seconds.")
    if up == down or (first.ids and first.ids == last.ids and len(first.ids) > 1):
        return problem(
            "orderBy ignored",
            f"The list comes {'oldest' if up == 'up' else 'newest'} first whatever orderBy says.",
            "An end cannot be proven by the list's other end: walks give what comes and are never complete, "
            "and a sweep deletes nothing.",
            "Compare counts with the control panel; exit code 1 of an export means just this.",
        )
    if (up, down) != ("up", "down"):
        return problem(
            "createdAt ignored",
            "The list does not come in the order of createdAt.",
            "Walks cannot tell whether pages join: they are not complete.",
            "Send the report of --json to the maintainers.",
        )
    if _way(moments(updated.rows, "updatedAt")) not in {"down", None}:
        return problem(
            "sortBy ignored",
            "The list comes in the order of createdAt, and not in that of updatedAt.",
            "Exports are exact. A sync would miss updates of older payments.",
            "sync --sweep reads the whole store each time.",
        )
    seen = "createdAt and updatedAt are kept to, in both directions."
    return fine("heeded", seen)


def _way(times: Sequence[int | None]) -> str | None:
    """Return the direction of times: up, down, or mixed; None where all are alike."""
    known = [one for one in times if one is not None]
    steps = {(after > before) - (after < before) for before, after in pairwise(known)} - {0}
    return {(1,): "up", (-1,): "down", (): None}.get(tuple(steps), "mixed")


def equals(evidence: Evidence) -> Finding:
    """Say in which order payments of the same second come."""
    first, again, last, tail, larger = map(evidence.get, ("first", "again", "last", "tail", "larger"))
    same = [_alike(one, other) for one, other in ((first, again), (first, larger), (tail, larger))]
    turned = _way(first.times) != _way(last.times)
    opposite = [_alike(one, last) for one in (first, tail) if turned]
    if not any(found is not None for found in (*same, *opposite)):
        return unknown("No two payments of one second were seen twice.")
    if False in same:
        return note(
            "shuffled",
            "Payments of one second come in another order at each request.",
            "Walks let pages overlap by such a run: nothing is missed, and nothing comes twice.",
        )
    if True in opposite:
        return note(
            "one way",
            "Payments of one second come in the same order in both directions.",
            "Walks do not rely on it.",
        )
    return fine("stable", "Payments of one second keep their order.")


def _alike(one: Seen, other: Seen) -> bool | None:
    """Whether runs of equals come in the same order in two answers; None where no run is in both."""
    place = {payment_id: at for at, payment_id in enumerate(other.ids)}
    pairs = [
        place[before[0]] < place[after[0]]
        for before, after in pairwise(zip(one.ids, one.times, strict=True))
        if before[1] == after[1] and before[0] in place and after[0] in place
    ]
    return all(pairs) if pairs else None


def offset(evidence: Evidence) -> Finding:
    """Say whether offset and limit are heeded, and which offset answers state."""
    first, one, beyond = map(evidence.get, ("first", "one", "beyond"))
    if not one.is_success or len({*first.times}) < 2:
        return unknown("There are too few payments to tell.")
    advice = "Send the report of --json to the maintainers: no walk can work on this."
    if len(one.rows) > 1:
        seen = "More than one row comes where one is asked for."
        return note("limit ignored", seen, "Walks advance by the rows that come.")
    if _ignores_offset(first, one):
        seen, means = "The list begins with its first row at any offset.", "Only the first page can be read."
        return problem("offset ignored", seen, means, advice)
    asked, said = beyond.parameter("offset"), beyond.said("offset")
    stated = [(page.parameter("offset"), page.said("offset")) for page in evidence.pages]
    stated = [(at, said) for at, said in stated if at and said != at]
    if beyond.is_success and said is not None and said == beyond.total != asked:
        seen, means = "An offset beyond the end is stated as the total.", "That is understood."
        return note("stated up to the total", seen, means)
    if stated:
        absent = {said for _, said in stated} == {None}
        seen = f"Answers state {'no offset' if absent else 'another offset than was asked for'}."
        means = "An answer that went astray on the way cannot be told by its offset; rows are still compared."
        return note("not stated" if absent else "stated otherwise", seen, means)
    return fine("heeded", "Offset and limit are heeded, and stated as asked.")


def _ignores_offset(first: Seen, one: Seen) -> bool:
    return one.times == first.times[:1] and len(first.times) > 1 and first.times[0] != first.times[1]


def totals(evidence: Evidence) -> Finding:
    """Say what the totals of the whole list count."""
    pages = [one for one in evidence.pages if one.rows]
    said = [(one.total, len(one.rows)) for one in pages if one.total is not None]
    means = "Complete is what the list's other end proves, not what a total says; time estimates may be off."
    if not pages:
        return unknown("No payments came.")
    if not said:
        means = "What is left of a walk is not known while it runs, and walk.count() cannot be answered."
        return note("absent", "Answers state no total.", means)
    most, least = max(total for total, _ in said), min(total for total, _ in said)
    lengths = {rows for _, rows in said}
    if len(lengths) > 1 and all(total == rows for total, rows in said):
        return note("of the page", "The total is the number of the page's own rows.", means)
    if most - least > max(_FEW, _PART * most):
        seen = f"The total differs between answers, from {least:,} to {most:,}."
        return note("wandering", seen, means)
    beyond = evidence.get("beyond").rows and not _ignores_offset(evidence.get("first"), evidence.get("one"))
    tail, last = evidence.get("tail"), evidence.get("last")
    hides = _stops_short(evidence) and _end_of(tail) >= most
    if beyond or hides or any(rows > total for total, rows in said):
        seen = f"The total is {most:,}, and there are more payments than that."
        return note("too small", seen, means)
    end = _end_of(tail)
    if last.ids[:1] and last.ids[0] in tail.ids and most - end > max(_FEW, _PART * most):
        seen = f"The total is {most:,}, and the newest payment is row {end:,}."
        return note("too large", seen, means)
    return fine("of the list", "The total counts the rows of the list.")


def paging_window(evidence: Evidence) -> Finding:
    """Say how far the list can be read."""
    first, tail, total = evidence.get("first"), evidence.get("tail"), evidence.total
    if not first.rows:
        return unknown("No payments came.")
    if total is None or (total > len(first.rows) and not tail.is_success):
        return unknown("How far the list goes was not shown.")
    found = {int(at): bool(one.rows) for at, one in evidence.all("at ").items() if one.is_success}
    end = _end_of(tail)
    if not _stops_short(evidence) and (tail.rows or total <= len(first.rows)):
        if totals(evidence).verdict in {"too small", "of the page"}:
            return unknown("The total does not say where the list ends.")
        return fine("none", "Rows come up to the end of the list.")
    shown = end - 1 if tail.rows else len(first.rows) - 1
    shown = max([shown, *(at for at, came in found.items() if came)])
    empty = min([end, *(at for at, came in found.items() if not came)])
    exact = empty == shown + 1
    where = f"row {empty:,}" if exact else f"a row between {shown + 1:,} and {empty:,}"
    most = 2 * (shown + 1)
    knows_total = total > empty
    enough = knows_total and total <= most
    though = f"though the total is {total:,}" if knows_total else "and newer payments come from the other end"
    longer = "this one is longer, and is" if knows_total else "a longer one is"
    return (note if enough else problem)(
        f"{empty}" if exact else f"{shown + 1} to {empty}",
        f"No rows come behind {where}, {though}.",
        f"Walks read from both ends, so lists of up to {most:,} payments are read completely"
        f"{'' if enough else f'; {longer} reported as not complete'}.",
        "" if enough else "Read it in parts: by channel_ids, processing_status or dates, each shorter.",
    )


def _end_of(tail: Seen) -> int:
    """Return the position behind the last row of a page."""
    return (tail.parameter("offset") or 0) + len(tail.rows)


def _stops_short(evidence: Evidence) -> bool:
    """Whether no rows come behind a page that the newest payment is not on."""
    first, last, tail = map(evidence.get, ("first", "last", "tail"))
    behind = evidence.seen.get(f"at {_end_of(tail)}")
    nothing = behind is not None and behind.is_success and not behind.rows
    turned = _way(first.times) != _way(last.times)
    return bool(tail.rows and nothing and turned and last.ids[:1] and last.ids[0] not in tail.ids)
