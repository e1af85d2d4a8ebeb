"""Findings on channels and filters: which are heeded, and how channelIds is spelled."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from b2b_payments._doctor.evidence import Evidence, Row, Seen, channel_of
from b2b_payments._doctor.finding import Finding, unknown
from b2b_payments._doctor.lists import totals
from b2b_payments._doctor.questions import channel_ids, invoices_of, spelling
from b2b_payments._errors import APIError
from b2b_payments._models import SearchBy
from b2b_payments._printable import counted
from b2b_payments._protocol.belonging import number
from b2b_payments._protocol.query import ChannelEncoding
from b2b_payments._resources.channels import says_single_storefront


def channels(evidence: Evidence) -> Finding:
    """Say whether the store has channels."""
    topic, listed = "channels", evidence.get("channels")
    if listed.is_success:
        return Finding(topic, "listed", "fine", f"The store has {counted(len(listed.rows), 'channel')}.")
    if isinstance(listed.failure, APIError) and says_single_storefront(listed.failure):
        return Finding(
            topic,
            "single storefront",
            "fine",
            "The store has no multi-storefront.",
            "client.channels.list() gives an empty list; there are no channels to choose.",
            "Leave channel_ids (--channel) out.",
        )
    if listed.status is None:
        return unknown(topic, "The channels were not asked for, or not answered.")
    return Finding(
        topic,
        f"refused {listed.status}",
        "problem",
        f"The list of channels is answered {listed.status}.",
        "Payments can be read; channels cannot be listed, and --channel cannot be checked.",
        "Give the API account the scope for channels, if the store has several storefronts.",
    )


def channel_spelling(evidence: Evidence) -> Finding:
    """Say which spellings of channelIds are understood."""
    topic, found = "channelIds", {}
    if not evidence.all("spelled "):
        return unknown(topic, "The store does not list several channels.")
    for name, one in evidence.all("spelled ").items():
        found[ChannelEncoding[name]] = spelling(evidence, one)
    understood = [one for one, what in found.items() if what == "understood"]
    if not understood and set(found.values()) & {"unknown"}:
        return unknown(topic, "Too few payments came to tell one channel from another.")
    seen = "; ".join(f"{one.value}: {what}" for one, what in found.items())
    if not understood and "read in part" in found.values():
        return Finding(
            topic,
            "one at a time",
            "note",
            f"Of several channels in one request, one alone is read ({seen}).",
            "Exports, and client.payments.stream(), ask for one channel at a time; list(channel_ids=[1, 2]) "
            "fails with PaginationError.",
            "client.payments.stream(channel_ids=[…]), or --channel for each.",
        )
    if not understood:
        return Finding(
            topic,
            "none",
            "problem",
            f"No spelling is understood ({seen}).",
            "A walk of channels fails with PaginationError; it never gives payments of other channels.",
            "Walk the whole store, and pick by payment.channel_id.",
        )
    usual = understood[0] is ChannelEncoding.REPEAT
    return Finding(
        topic,
        ", ".join(one.name.lower().replace("_", "-") for one in understood),
        "fine" if usual else "note",
        f"{seen}.",
        "" if usual else "Each new client finds that out by itself, at a few more requests.",
        "" if usual else "One client for all walks of a store finds it out once.",
    )


def other_spellings(evidence: Evidence) -> Finding:
    """Say what becomes of a spelling of channelIds that is not understood."""
    topic = "channelIds otherwise"
    found = {spelling(evidence, one) for one in evidence.all("spelled ").values()}
    others = sorted(found - {"understood", "unknown"})
    if not others:
        return unknown(topic, "No spelling was seen to be misread.")
    means = "Rows are held against the channels asked for, so this is noticed."
    return Finding(topic, ", ".join(others), "fine", f"Another spelling is {' or '.join(others)}.", means)


def default_channels(evidence: Evidence) -> Finding:
    """Say whether a list that names no channel is of all of them."""
    topic, known = "list without channelIds", {*channel_ids(evidence.get("channels"))}
    if len(known) < 2:
        return unknown(topic, "The store does not list several channels.")
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
            return Finding(
                topic,
                "some channels",
                "problem",
                f"{seen}{others}",
                "A walk of the whole store is a walk of some channels, and so is a copy by sync.",
                "Name every channel: channel_ids=[…] of client.payments.stream(), or --channel for each; "
                "`b2b-payments channels` lists them.",
            )
    if with_rows == known and total is not None and sum(part or 0 for part in parts) == total:
        seen = f"The channels' totals add up to that of the list without channelIds ({total:,})."
        return Finding(topic, "all channels", "fine", seen)
    if len(shown) > 1:
        seen = f"Without channelIds, payments of {counted(len(shown), 'channel')} come."
        return Finding(topic, "all channels", "fine", seen)
    return unknown(topic, "All payments that were seen are of one channel.")


def filters(evidence: Evidence) -> Finding:
    """Say which filters are heeded."""
    topic = "filters"
    found = {
        label: what
        for label, name, fits in _FILTERS
        if (what := _filter(evidence, evidence.get(name), fits)) is not None
    }
    if not found:
        return unknown(topic, "There are too few payments to tell.")
    bad = {name: what for name, what in found.items() if what != "heeded"}
    if not bad:
        return Finding(topic, "heeded", "fine", f"{', '.join(found)} are heeded.")
    named = ", ".join(f"{name} {what}" for name, what in bad.items())
    return Finding(
        topic,
        named,
        "problem",
        f"Of the filters, {named}.",
        "A walk says so in walk.report.ignored_filters, and an export on its last line.",
        "Leave that filter out, and pick in your own program.",
    )


def filtered_totals(evidence: Evidence) -> Finding:
    """Say whether totals count what a filter leaves."""
    topic, total = "totals under filters", evidence.total
    one, fits = evidence.get("status"), _FILTERS[0][2]
    rest = sum(not fits(row, _asked(one)) for row in evidence.whole)
    if one.total is None or total is None or _filter(evidence, one, fits) != "heeded":
        return unknown(topic, "No filter was seen to be heeded, or no total came with it.")
    if totals(evidence).level != "fine":
        return unknown(topic, "The total of the whole list is none to compare with.")
    means = "Only time estimates rest on it."
    if rest > 3 and one.total > total - rest and one.total > len(one.rows):
        seen = f"Under a filter the total is {one.total:,}, though {rest:,} payments seen do not fit it."
        return Finding(topic, "of all", "note", seen, means)
    return Finding(topic, "of the filtered", "fine", "Under a filter, the total counts what fits it.", means)


def _asked(one: Seen) -> Mapping[str, str]:
    return dict(one.question.request.query)


def _filter(evidence: Evidence, one: Seen, fits: Callable[[Row, Mapping[str, str]], bool]) -> str | None:
    """Say what became of a filter; None where that cannot be told."""
    if one.status is not None:
        return f"refused ({one.status})"
    asked = _asked(one)
    if not one.is_success or all(fits(row, asked) for row in evidence.whole):
        return None
    if not all(fits(row, asked) for row in one.rows):
        # Of the keywords' place alone, where they are found elsewhere.
        found = "q" in asked and all(_has_keywords(row, asked) for row in one.rows)
        return "found in other fields than searchBy says" if found else "ignored"
    return "heeded" if one.rows else "found nothing"


def _has_status(row: Row, asked: Mapping[str, str]) -> bool:
    return str(row.get("processingStatus")) == asked.get("processingStatus")


def _has_invoice(row: Row, asked: Mapping[str, str]) -> bool:
    return number(asked.get("invoiceId")) in invoices_of(row)


def _has_name(row: Row, asked: Mapping[str, str]) -> bool:
    return asked.get("customerName", "").casefold() in str(row.get("customerName")).casefold()


def _has_id(row: Row, asked: Mapping[str, str]) -> bool:
    return asked.get("q", "") == str(row.get("id"))


def _has_keywords(row: Row, asked: Mapping[str, str]) -> bool:
    return any(asked.get("q", "") in str(row.get(name)) for name in SearchBy)


_FILTERS: tuple[tuple[str, str, Callable[[Row, Mapping[str, str]], bool]], ...] = (
    ("processingStatus", "status", _has_status),
    ("invoiceId", "invoice", _has_invoice),
    ("customerName", "name", _has_name),
    ("q", "search", _has_id),
)
