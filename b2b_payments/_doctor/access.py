"""Findings about access to the service: credentials, clocks, quota."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from b2b_payments._auth import StoreAuth
from b2b_payments._doctor.evidence import Evidence, Observation
from b2b_payments._doctor.finding import Finding, fine, note, problem, unknown
from b2b_payments._errors import APIError, RequestTimeoutError, ResponseDecodeError
from b2b_payments._printable import counted
from b2b_payments._quota import Quota

_SCOPE = "In the store's control panel, give the API account the B2B Edition scope."
_VARIABLES = "B2B_PAYMENTS_STORE_HASH and B2B_PAYMENTS_ACCESS_TOKEN"


def authentication(evidence: Evidence) -> Finding:
    """Find which credential works."""
    first, other = evidence.get("plain"), evidence.get("other")
    is_store = isinstance(evidence.auth, StoreAuth)
    if other.is_success:
        to_set = f"{_VARIABLES} (StoreAuth)" if is_store else "B2B_PAYMENTS_AUTH_TOKEN alone (LegacyAuth)"
        seen = "The credential is refused, but the same token works with the other kind of authentication."
        return problem("other way", seen, "Every command fails.", f"Set {to_set}.")
    if first.is_success and is_store:
        return fine("store", "X-Auth-Token with X-Store-Hash works.")
    if first.is_success:
        works = evidence.get("newer").is_success
        return note(
            "legacy, store works too" if works else "legacy",
            f"authToken works{', and so does the same token as X-Auth-Token' if works else ''}.",
            "All of this library works with it, but the vendor has deprecated it since September 2025.",
            f"Set {_VARIABLES} instead{'' if works else ', with the token of a store-level API account'}.",
        )
    return _refused(first, is_store=is_store)


def _refused(first: Observation, *, is_store: bool) -> Finding:
    means = "Nothing else could be checked."
    if first.status is None:
        late, garbled = (isinstance(first.failure, one) for one in (RequestTimeoutError, ResponseDecodeError))
        what = "the request timed out" if late else "no connection" if not garbled else "the body is not JSON"
        advice = "Check B2B_PAYMENTS_BASE_URL, the network, and any proxy."
        return problem("no answer", f"The service cannot be used: {what}.", means, advice)
    status, advice = first.status, f"Wait, and run this again; the service answers {first.status}."
    if status == 401:
        advice = "Check the token, or create a new one. A missing scope may also cause status 401."
    elif status in {403, 404}:
        advice = f"{_SCOPE} If it has this scope already, check B2B_PAYMENTS_BASE_URL."
    elif status >= 500 and is_store:
        advice = "Check B2B_PAYMENTS_STORE_HASH: a wrong one causes this status. Otherwise, try again later."
    seen = f"The service answers the request for payments with status {status}."
    return problem(f"refused {status}", seen, means, advice)


def clock(evidence: Evidence) -> Finding:
    """Compare the service's clock with this machine's."""
    offsets: list[float] = []
    uncertainty = 0.0
    for one in evidence.by_name.values():
        if one.date is not None and one.sent_at is not None and one.received_at is not None:
            took = (one.received_at - one.sent_at).total_seconds()
            offsets.append((one.date - one.sent_at).total_seconds() - took / 2)
            uncertainty = max(uncertainty, took / 2)
    if not offsets:
        return note(
            "not said",
            "The responses have no readable Date header.",
            "This machine's clock decides whether a payment is newer than a walk.",
            "Synchronize this machine's clock (NTP).",
        )
    ahead = sum(offsets) / len(offsets)
    if abs(ahead) <= 2 + uncertainty:
        return fine("in step", "The service's clock and this machine's agree.")
    relation = "ahead of" if ahead > 0 else "behind"
    return note(
        "ahead" if ahead > 0 else "behind",
        f"The service's clock is {_duration(abs(ahead))} {relation} this machine's.",
        "Walks and copies use the service's clock, so they are correct. A date that you compute from this "
        "machine's clock is wrong by this difference.",
        "Synchronize this machine's clock (NTP), or correct the dates that you pass.",
    )


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} s"


def quota_headers(evidence: Evidence) -> Finding:
    """Find whether headers state how many requests remain."""
    if all(said.remaining is None and said.resets_after is None for _, said in evidence.readings):
        return note(
            "absent",
            "No response says how many requests remain.",
            "This library can only count its own requests: it notices those of other programs when it is "
            "refused (429), and then waits.",
            "If others use the store too, give this program a share: Quota(share=0.5), or --quota 75/60.",
        )
    return fine("present", "Responses say how many requests remain, and when the quota resets.")


def quota(evidence: Evidence) -> Finding:
    """Compare the quota that the service states with the configured one."""
    stated = [reading.allocated for _, reading in evidence.readings if reading.allocated is not None]
    if not stated:
        return unknown("The service does not say how many requests it allows.")
    configured = evidence.quota
    requests, per = min(stated)
    text = f"{requests:,} requests in {per:g} s"
    option = f"{requests}/{per:g}"
    if configured is None:
        seen = f"The service allows {text}, and no quota is configured."
        return note(option, seen, "Requests are sent until one is refused.", f"Set --quota {option}.")
    same = (requests, per) == (configured.requests, configured.per)
    usual = (requests, per) == (Quota().requests, Quota().per)
    verdict = "150/60" if usual else option
    if same:
        return fine(verdict, f"The service allows {text}, which is the configured quota.")
    return note(
        verdict,
        f"The service allows {text}; the configuration says {configured.requests:,} in {configured.per:g} s.",
        "After the first response, this library respects the smaller of the two.",
        f"Set Quota({requests}, {per:g}), or --quota {option}.",
    )


def window(evidence: Evidence) -> Finding:
    """Find how the service counts requests, as far as the headers show it."""
    complete = [
        (one.monotonic, said.remaining, said.resets_after, said.allocated)
        for one, said in evidence.readings
        if said.remaining is not None and said.resets_after is not None and said.allocated is not None
    ]
    if len(complete) < 5:
        return unknown("Too few responses say how many requests remain and when the quota resets.")
    leaks = all(
        abs(resets - (requests - remaining) * per / requests) <= 2 * per / requests + 0.05
        for _, remaining, resets, (requests, per) in complete
    )
    if leaks:
        return note(
            "leaky bucket",
            "The time until the reset grows with each request, as in a leaky bucket.",
            "After a burst, requests become available one by one. This library follows the headers.",
        )
    ends = [time + resets for time, _, resets, _ in complete]
    if max(ends) - min(ends) <= 1.0:
        return fine(
            "fixed or sliding",
            "Further requests do not move the time of the reset: the window is fixed or sliding.",
            "This library respects both kinds. Only a whole window would show which one it is.",
        )
    return unknown("The headers disagree about when the window ends.")


def other_programs(evidence: Evidence) -> Finding:
    """Find whether other programs use the store's quota."""
    readings = [
        (one.requests_so_far, reading.remaining)
        for one, reading in evidence.readings
        if reading.remaining is not None
    ]
    if len(readings) < 2:
        return unknown("The responses do not say how many requests remain.")
    spent = _spent_by_others(readings)
    if not spent:
        return fine("none seen", "While this ran, no other program used the store's quota.")
    return note(
        "seen",
        f"While this ran, others sent {counted(spent, 'request')} or more under the same quota.",
        "This library waits as the headers require, so that nobody is refused; walks take longer.",
        "To leave more to others, set Quota(share=0.5); for your own calls during walks, Quota(reserve=25).",
    )


def _spent_by_others(readings: Sequence[tuple[int, int]]) -> int:
    """Count the requests by which the quota shrank more than this program's own account for."""
    return sum(max(0, left - then - (now - sent)) for (sent, left), (now, then) in pairwise(readings))


def failures(evidence: Evidence) -> Finding:
    """Find questions that failed, with status 429 or 5xx, even when repeated."""
    failed = [
        one
        for one in evidence.by_name.values()
        if isinstance(one.failure, APIError) and (one.status == 429 or (one.status or 0) >= 500)
    ]
    if not evidence.get("plain").is_success or not failed:
        return fine("none", "No request failed twice.")
    statuses = sorted({str(one.status) for one in failed})
    return note(
        "seen",
        f"{counted(len(failed), 'request')} failed twice ({', '.join(statuses)}): some findings are missing.",
        "By default, this library retries a page for five minutes, and attempts other calls five times.",
        "Run this again later.",
    )
