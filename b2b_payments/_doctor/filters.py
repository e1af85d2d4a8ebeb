"""Findings on channels and filters: which are heeded, and how channelIds is spelled."""

from __future__ import annotations

from collections.abc import Mapping

from b2b_payments._doctor.evidence import Evidence, Row, Seen, channel_of
from b2b_payments._doctor.finding import Finding, fine, note, problem, unknown
from b2b_payments._doctor.lists import totals
from b2b_payments._doctor.questions import channel_ids, spelling
from b2b_payments._errors import APIError
from b2b_payments._printable import counted
from b2b_payments._protocol.query import ChannelEncoding, fits
from b2b_payments._resources.channels import says_single_storefront

_FILTERS = ("processingStatus", "invoiceId", "customerName", "q")


def channels(evidence: Evidence) -> Finding:
    """Say whether the store has channels."""
    listed = evidence.get("channels")
    if listed.is_success:
        return fine("listed", f"The store has {counted(len(listed.rows), 'channel')}.")
    if isinstance(listed.failure, APIError) and says_single_storefront(listed.failure):
        return fine(
            "single storefront",
            "The store has no multi-storefront.",
            "client.channels.list() gives an empty list; there are no channels to choose.",
            "Leave channel_ids (--channel) out.",
        )
    if listed.status is None:
        return unknown("The channels were not asked for, or not answered.")
    return problem(
        f"refused {listed.status}",
        f"The list of channels is answered {listed.status}.",
        "Payments can be read; channels cannot be listed, and --channel cannot be checked.",
        "Give the API account the scope for channels, if the store has several storefronts.",
    )


def channel_spelling(evidence: Evidence) -> Finding:
    """Say which spellings of channelIds are understood."""
    found = {}
    if not evidence.all("spelled "):
        return unknown("The store does not list several channels.")
    for name, one in evidence.all("spelled ").items():
        found[ChannelEncoding[name]] = spelling(evidence, one)
    understood = [one for one, what in found.items() if what == "understood"]
    if not understood and set(found.values()) & {"unknown"}:
        return unknown("Too few payments came to tell one channel from another.")
    seen = "; ".join(f"{one.value}: {what}" for one, what in found.items())
    if not understood and "read in part" in found.values():
        return note(
            "one at a time",
            f"Of several channels in one request, one alone is read ({seen}).",
            "Exports, and client.payments.stream(), ask for one channel at a time; list(channel_ids=[1, 2]) "
            "fails with PaginationError.",
            "client.payments.stream(channel_ids=[…]), or --channel for each.",
        )
    if not understood:
        return problem(
            "none",
            f"No spelling is understood ({seen}).",
            "A walk of channels fails with PaginationError; it never gives payments of other channels.",
            "Walk the whole store, and pick by payment.channel_id.",
        )
    usual = understood[0] is ChannelEncoding.REPEAT
    return (fine if usual else note)(
        ", ".join(one.name.lower().replace("_", "-") for one in understood),
        f"{seen}.",
        "" if usual else "Each new client finds that out by itself, at a few more requests.",
        "" if usual else "One client for all walks of a store finds it out once.",
    )


def other_spellings(evidence: Evidence) -> Finding:
    """Say what becomes of a spelling of channelIds that is not understood."""
    found = {spelling(evidence, one) for one in evidence.all("spelled ").values()}
    others = sorted(found - {"understood", "unknown"})
    if not others:
        return unknown("No spelling was seen to be misread.")
    means = "Rows are held against the channels asked for, so this is noticed."
    return fine(", ".join(others), f"Another spelling is {' or '.join(others)}.", means)


def default_channels(evidence: Evidence) -> Finding:
    """Say whether a list that names no channel is of all of them."""
    known = {*channel_ids(evidence.get("channels"))}
    if len(known) < 2:
        return unknown("The store does not list several channels.")
    pages = evidence.whole
    shown = {channel_of(row) for row in pages} & known
    by_channel = list(evidence.all("channel ").values())
    with_rows = {channel_of(row) for one in by_channel for row in one.rows} & known
    parts = [one.total for one in by_channel]
    total = evidence.total
    if missing := with_rows - shown:
        more = total is not None and None not in parts and sum(filter(None, parts)) > total
        # One of few payments may merely not have been on the pages seen.
        if more or (len(shown) == 1 and len(pages) > 1):
            others = f"{counted(len(missing), 'other')} {'has' if len(missing) == 1 else 'have'} some, too."
            seen = f"Without channelIds, payments of {len(shown)} of {counted(len(known), 'channel')} come; "
            return problem(
                "some channels",
                f"{seen}{others}",
                "A walk of the whole store is a walk of some channels, and so is a copy by sync.",
                "Name every channel: channel_ids=[…] of client.payments.stream(), or --channel for each; "
                "`b2b-payments channels` lists them.",
            )
    if with_rows == known and total is not None and sum(part or 0 for part in parts) == total:
        seen = f"The channels' totals add up to that of the list without channelIds ({total:,})."
        return fine("all channels", seen)
    if len(shown) > 1:
        seen = f"Without channelIds, payments of {counted(len(shown), 'channel')} come."
        return fine("all channels", seen)
    return unknown("All payments that were seen are of one channel.")


def filters(evidence: Evidence) -> Finding:
    """Say which filters are heeded."""
    found = {name: what for name in _FILTERS if (what := _filter(evidence, name)) is not None}
    if not found:
        return unknown("There are too few payments to tell.")
    bad = {name: what for name, what in found.items() if what != "heeded"}
    if not bad:
        return fine("heeded", f"{', '.join(found)} are heeded.")
    named = ", ".join(f"{name} {what}" for name, what in bad.items())
    return problem(
        named,
        f"Of the filters, {named}.",
        "A walk says so in walk.report.ignored_filters, and an export on its last line.",
        "Leave that filter out, and pick in your own program.",
    )


def filtered_totals(evidence: Evidence) -> Finding:
    """Say whether totals count what a filter leaves."""
    total, one = evidence.total, evidence.get("processingStatus")
    rest = sum(not _fits(row, one) for row in evidence.whole)
    if one.total is None or total is None or _filter(evidence, "processingStatus") != "heeded":
        return unknown("No filter was seen to be heeded, or no total came with it.")
    if totals(evidence).level != "fine":
        return unknown("The total of the whole list is none to compare with.")
    means = "Only time estimates rest on it."
    if rest > 3 and one.total > total - rest and one.total > len(one.rows):
        seen = f"Under a filter the total is {one.total:,}, though {rest:,} payments seen do not fit it."
        return note("of all", seen, means)
    return fine("of the filtered", "Under a filter, the total counts what fits it.", means)


def _filter(evidence: Evidence, name: str) -> str | None:
    """Say what became of a filter; None where that cannot be told."""
    one = evidence.get(name)
    if one.status is not None:
        return f"refused ({one.status})"
    if not one.is_success or all(_fits(row, one) for row in evidence.whole):
        return None
    if not all(_fits(row, one) for row in one.rows):
        anywhere = {key: value for key, value in _asked(one).items() if key == "q"}
        elsewhere = all(True in fits(anywhere, row).values() for row in one.rows)
        return "found in other fields than searchBy says" if elsewhere else "ignored"
    return "heeded" if one.rows else "found nothing"


def _fits(row: Row, one: Seen) -> bool:
    """Whether nothing shows that a payment is not as was asked for."""
    asked = _asked(one)
    if "q" in asked:  # an id, which texts that merely hold it are not
        return asked["q"] == str(row.get("id"))
    return False not in fits(asked, row).values()


def _asked(one: Seen) -> Mapping[str, str]:
    return dict(one.question.request.query)
