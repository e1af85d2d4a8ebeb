"""Findings about channels and filters: which filters work, and how channelIds is encoded."""

from __future__ import annotations

from collections.abc import Mapping

from b2b_payments._doctor.evidence import Evidence, Observation, Row, channel_of
from b2b_payments._doctor.finding import Finding, fine, note, problem, unknown
from b2b_payments._doctor.lists import totals
from b2b_payments._doctor.questions import channel_ids, encoding_outcome
from b2b_payments._errors import APIError
from b2b_payments._printable import counted
from b2b_payments._protocol.query import ChannelEncoding, fits
from b2b_payments._resources.channels import says_single_storefront

_FILTERS = ("processingStatus", "invoiceId", "customerName", "q")


def channels(evidence: Evidence) -> Finding:
    """Find whether the store has channels."""
    listed = evidence.get("channels")
    if listed.is_success:
        return fine("listed", f"The store has {counted(len(listed.rows), 'channel')}.")
    if isinstance(listed.failure, APIError) and says_single_storefront(listed.failure):
        return fine(
            "single storefront",
            "The store does not have multi-storefront.",
            "client.channels.list() returns an empty list; there are no channels to choose from.",
            "Do not pass channel_ids or --channel.",
        )
    if listed.status is None:
        return unknown("The channels were not requested, or the request failed.")
    return problem(
        f"refused {listed.status}",
        f"The service answers the request for channels with status {listed.status}.",
        "Payments can be read, but channels cannot be listed, and --channel cannot be checked.",
        "If the store has several storefronts, give the API account the scope for channels.",
    )


def channel_encoding(evidence: Evidence) -> Finding:
    """Find which encodings of channelIds the service understands."""
    tried = evidence.by_prefix("as ").items()
    outcomes = {ChannelEncoding[name]: encoding_outcome(evidence, one) for name, one in tried}
    if not outcomes:
        return unknown("The service does not list several channels.")
    understood = [one for one, outcome in outcomes.items() if outcome == "understood"]
    if not understood and set(outcomes.values()) & {"unknown"}:
        return unknown("Too few payments were received to distinguish the channels.")
    seen = "; ".join(f"{one.value}: {outcome}" for one, outcome in outcomes.items())
    if not understood and "read in part" in outcomes.values():
        return note(
            "one at a time",
            f"If a request names several channels, the service filters by only one ({seen}).",
            "Exports and client.payments.stream() request one channel at a time; list(channel_ids=[1, 2]) "
            "fails with PaginationError.",
            "Use client.payments.stream(channel_ids=[…]), or --channel for each.",
        )
    if not understood:
        return problem(
            "none",
            f"The service understands no encoding of channelIds ({seen}).",
            "A walk of channels fails with PaginationError; it never returns payments of other channels.",
            "Walk the whole store, and select by payment.channel_id.",
        )
    usual = understood[0] is ChannelEncoding.REPEAT
    return (fine if usual else note)(
        ", ".join(one.name.lower().replace("_", "-") for one in understood),
        f"{seen}.",
        "" if usual else "Each new client spends a few requests to find this out.",
        "" if usual else "Use one client for all walks of a store: it finds this out only once.",
    )


def other_encodings(evidence: Evidence) -> Finding:
    """Find how the service treats encodings of channelIds that it does not understand."""
    outcomes = {encoding_outcome(evidence, one) for one in evidence.by_prefix("as ").values()}
    others = sorted(outcomes - {"understood", "unknown"})
    if not others:
        return unknown("The service misread no encoding of channelIds.")
    means = "This library notices that, since it compares each row with the requested channels."
    return fine(", ".join(others), f"Another encoding of channelIds is {' or '.join(others)}.", means)


def default_channels(evidence: Evidence) -> Finding:
    """Find whether a list without channelIds has the payments of all channels."""
    channels = {*channel_ids(evidence.get("channels"))}
    if len(channels) < 2:
        return unknown("The service does not list several channels.")
    rows = evidence.unfiltered_rows
    shown = {channel_of(row) for row in rows} & channels
    by_channel = list(evidence.by_prefix("channel ").values())
    with_rows = {channel_of(row) for one in by_channel for row in one.rows} & channels
    parts = [one.total for one in by_channel]
    total = evidence.total
    if missing := with_rows - shown:
        more = total is not None and None not in parts and sum(filter(None, parts)) > total
        # A channel with few payments may just not be on the pages that were read.
        if more or (len(shown) == 1 and len(rows) > 1):
            others = f"{counted(len(missing), 'other')} {'has' if len(missing) == 1 else 'have'} some, too."
            seen = f"Without channelIds, payments of {len(shown)} of {counted(len(channels), 'channel')} are "
            return problem(
                "some channels",
                f"{seen}listed; {others}",
                "A walk without channel_ids misses the other channels, and so does a copy made by sync.",
                "Name every channel: channel_ids=[…] of client.payments.stream(), or --channel for each; "
                "`b2b-payments channels` lists them.",
            )
    if with_rows == channels and total is not None and sum(part or 0 for part in parts) == total:
        seen = f"The totals of the channels add up to the total without channelIds ({total:,})."
        return fine("all channels", seen)
    if missing:
        return unknown("The pages that were read do not show the payments of every channel.")
    if len(shown) > 1:
        seen = f"Without channelIds, payments of {counted(len(shown), 'channel')} are listed."
        return fine("all channels", seen)
    return unknown("All payments that were received belong to one channel.")


def filters(evidence: Evidence) -> Finding:
    """Find which filters the service applies."""
    outcomes = {name: what for name in _FILTERS if (what := _filter_outcome(evidence, name)) is not None}
    if not outcomes:
        return unknown("There are too few payments to tell.")
    bad = {name: outcome for name, outcome in outcomes.items() if outcome != "heeded"}
    if not bad:
        return fine("heeded", f"The service applies these filters: {', '.join(outcomes)}.")
    listed = ", ".join(f"{name} {outcome}" for name, outcome in bad.items())
    return problem(
        listed,
        f"Filters that do not work as documented: {listed}.",
        "walk.report.ignored_filters and the last line of an export name the ignored ones.",
        "Do without this filter, and select the payments in your own program.",
    )


def filtered_totals(evidence: Evidence) -> Finding:
    """Find whether the total of a filtered list counts only the payments that match the filter."""
    total, one = evidence.total, evidence.get("processingStatus")
    others = sum(not _matches(row, one) for row in evidence.unfiltered_rows)
    if one.total is None or total is None or _filter_outcome(evidence, "processingStatus") != "heeded":
        return unknown("The filter by processingStatus could not be shown to work, or has no total.")
    if totals(evidence).level != "fine":
        return unknown("The total of the unfiltered list is not reliable enough to compare with.")
    means = "Only estimates of the remaining time depend on it."
    if others > 3 and one.total > total - others and one.total > len(one.rows):
        seen = f"With a filter, the total is {one.total:,}, although {others:,} payments do not match it."
        return note("of all", seen, means)
    return fine("of the filtered", "With a filter, the total counts only the payments that match it.", means)


def _filter_outcome(evidence: Evidence, name: str) -> str | None:
    """Say how the service treated a filter, or None if the rows do not show it."""
    one = evidence.get(name)
    if one.status is not None:
        return f"refused ({one.status})"
    if not one.is_success or all(_matches(row, one) for row in evidence.unfiltered_rows):
        return None
    if not all(_matches(row, one) for row in one.rows):
        keywords = {key: value for key, value in _query_of(one).items() if key == "q"}
        in_any_field = all(True in fits(keywords, row).values() for row in one.rows)
        return "found in other fields than searchBy says" if in_any_field else "ignored"
    return "heeded" if one.rows else "found nothing"


def _matches(row: Row, one: Observation) -> bool:
    """Whether a payment matches the query, as far as its row shows."""
    return False not in fits(_query_of(one), row).values()


def _query_of(one: Observation) -> Mapping[str, str]:
    return dict(one.question.request.query)
