"""Findings on how the service is reached: credentials, clocks, quota."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from b2b_payments._auth import StoreAuth
from b2b_payments._doctor.evidence import Evidence, Seen
from b2b_payments._doctor.finding import Finding, fine, note, problem, unknown
from b2b_payments._errors import APIError, RequestTimeoutError, ResponseDecodeError
from b2b_payments._printable import counted
from b2b_payments._quota import Quota

_SCOPE = "In the store's control panel, give the API account the scope of B2B Edition."
_VARIABLES = "B2B_PAYMENTS_STORE_HASH and B2B_PAYMENTS_ACCESS_TOKEN"


def authentication(evidence: Evidence) -> Finding:
    """Say which credential works."""
    first, other = evidence.get("plain"), evidence.get("other")
    of_store = isinstance(evidence.auth, StoreAuth)
    if other.is_success:
        told = f"{_VARIABLES} (StoreAuth)" if of_store else "B2B_PAYMENTS_AUTH_TOKEN alone (LegacyAuth)"
        seen = "The credential is refused as it is given, and the same token works in the other way."
        return problem("other way", seen, "Every command fails.", f"Set {told}.")
    if first.is_success and of_store:
        return fine("store", "X-Auth-Token with X-Store-Hash works.")
    if first.is_success:
        works = evidence.get("newer").is_success
        return note(
            "legacy, store works too" if works else "legacy",
            f"authToken works{', and so does the same token as X-Auth-Token' if works else ''}.",
            "It works with all of this library. The vendor has called it deprecated since September 2025.",
            f"Set {_VARIABLES} instead{'' if works else ', with the token of a store-level API account'}.",
        )
    return _refused(first, of_store=of_store)


def _refused(first: Seen, *, of_store: bool) -> Finding:
    means = "Nothing else could be asked."
    if first.status is None:
        late, garbled = (isinstance(first.failure, one) for one in (RequestTimeoutError, ResponseDecodeError))
        what = "no answer came in time" if late else "no connection" if not garbled else "no JSON came back"
        advice = "Check B2B_PAYMENTS_BASE_URL, and the network or proxy between."
        return problem("no answer", f"The service does not answer: {what}.", means, advice)
    status, advice = first.status, f"Wait, and run this again; the service answers {first.status}."
    if status == 401:
        advice = "Check the token, or make a new one; a missing scope may show as 401, too."
    elif status in {403, 404}:
        advice = f"{_SCOPE} If it has it, check B2B_PAYMENTS_BASE_URL."
    elif status >= 500 and of_store:
        advice = "Check B2B_PAYMENTS_STORE_HASH: a wrong one is answered so. Else wait, and run this again."
    seen = f"The list of payments is answered {status}."
    return problem(f"refused {status}", seen, means, advice)


def clock(evidence: Evidence) -> Finding:
    """Compare the service's clock with this machine's."""
    seconds: list[float] = []
    doubt = 0.0
    for one in evidence.seen.values():
        if one.date is not None and one.asked is not None and one.answered is not None:
            took = (one.answered - one.asked).total_seconds()
            seconds.append((one.date - one.asked).total_seconds() - took / 2)
            doubt = max(doubt, took / 2)
    if not seconds:
        return note(
            "not said",
            "The answers have no readable Date.",
            "Whether a payment is newer than a walk is judged by this machine's clock instead.",
            "Keep this machine's clock right (NTP).",
        )
    ahead = sum(seconds) / len(seconds)
    if abs(ahead) <= 2 + doubt:
        return fine("in step", "The service's clock and this machine's agree.")
    way = "ahead of" if ahead > 0 else "behind"
    return note(
        "ahead" if ahead > 0 else "behind",
        f"The service's clock is {_time(abs(ahead))} {way} this machine's.",
        "Walks and copies judge by the service's clock, so they are right. A date that you compute from this "
        "machine's clock is off by as much.",
        "Set this machine's clock (NTP), or allow for the difference in dates that you give.",
    )


def _time(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} s"


def quota_headers(evidence: Evidence) -> Finding:
    """Say what the headers tell of the quota."""
    readings = [one.reading for one in evidence.seen.values() if one.reading is not None]
    tell = [one for one in readings if one.remaining is not None or one.resets_after is not None]
    if not tell:
        return note(
            "absent",
            "No answer says how many requests remain.",
            "Requests are counted by this library alone: what other programs send to the store shows only as "
            "refusals (429), after which it waits.",
            "Where others use the store too, give this program a part: Quota(share=0.5), or --quota 75/60.",
        )
    return fine("present", "Answers say how many requests remain, and until when.")


def quota(evidence: Evidence) -> Finding:
    """Compare the quota that the service states with the one that is kept."""
    stated = {one.reading.allocated for one in evidence.seen.values() if one.reading is not None} - {None}
    if not stated:
        return unknown("The service does not say how many requests it allows.")
    kept = evidence.quota
    requests, per = min(one for one in stated if one is not None)
    text = f"{requests:,} requests in {per:g} s"
    as_set = f"{requests}/{per:g}"
    if kept is None:
        seen = f"The service allows {text}, and this program keeps to none of its own."
        return note(as_set, seen, "It sends until it is refused.", f"--quota {as_set}")
    same = (requests, per) == (kept.requests, kept.per)
    usual = (requests, per) == (Quota().requests, Quota().per)
    verdict = "150/60" if usual else as_set
    if same:
        return fine(verdict, f"The service allows {text}, as is kept to.")
    return note(
        verdict,
        f"The service allows {text}; this program is set to {kept.requests:,} in {kept.per:g} s.",
        "The smaller one is kept to, as soon as the first answer has said it.",
        f"Quota({requests}, {per:g}), or --quota {as_set}",
    )


def window(evidence: Evidence) -> Finding:
    """Say how the service counts requests, as far as the headers tell."""
    told = [
        (one.moment, one.reading.remaining, one.reading.resets_after, one.reading.allocated)
        for one in evidence.seen.values()
        if one.reading is not None
    ]
    found = [
        (moment, left, resets, allocated)
        for moment, left, resets, allocated in told
        if left is not None and resets is not None and allocated is not None
    ]
    if len(found) < 5:
        return unknown("Too few answers say what remains and until when.")
    leaks = all(
        abs(resets - (requests - left) * per / requests) <= 2 * per / requests + 0.05
        for _, left, resets, (requests, per) in found
    )
    if leaks:
        return note(
            "leaky bucket",
            "The time until the reset grows with each request: a bucket that leaks evenly.",
            "After a burst, requests become free one by one; this library reads that from the headers.",
        )
    ends = [moment + resets for moment, _, resets, _ in found]
    if max(ends) - min(ends) <= 1.0:
        return fine(
            "fixed or sliding",
            "The reset does not move with further requests: a window, fixed or sliding.",
            "Both are kept to. Which of them it is shows only after a whole window.",
        )
    return unknown("The headers do not agree on when the window ends.")


def other_programs(evidence: Evidence) -> Finding:
    """Say whether other programs use the store's quota."""
    left = [
        (one.sent, one.reading.remaining)
        for one in evidence.seen.values()
        if one.reading is not None and one.reading.remaining is not None
    ]
    if len(left) < 2:
        return unknown("The answers do not say how many requests remain.")
    beyond = _spent_by_others(left)
    if not beyond:
        return fine("none seen", "While this ran, nobody else used the store's quota.")
    return note(
        "seen",
        f"While this ran, others sent {counted(beyond, 'request')} under the same quota, or more.",
        "This library waits by what the headers say remains, so neither is refused; walks take longer.",
        "To leave them more: Quota(share=0.5), or Quota(reserve=25) for calls beside your walks.",
    )


def _spent_by_others(left: Sequence[tuple[int, int]]) -> int:
    """Count what remained less by than was sent here."""
    return sum(max(0, left - then - (now - sent)) for (sent, left), (now, then) in pairwise(left))


def refused_meanwhile(evidence: Evidence) -> Finding:
    """Say whether requests failed that others like them did not."""
    failed = [
        one
        for one in evidence.seen.values()
        if isinstance(one.failure, APIError) and (one.status == 429 or (one.status or 0) >= 500)
    ]
    if not evidence.get("plain").is_success or not failed:
        return fine("none", "No question failed twice.")
    statuses = sorted({str(one.status) for one in failed})
    return note(
        "seen",
        f"{counted(len(failed), 'question')} failed twice ({', '.join(statuses)}): what they were to show is "
        "not known.",
        "Pages are asked for again for five minutes, calls five times.",
        "Run this again later.",
    )
