"""Generates the questions of an examination, each depending on the observations so far. It does no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence

from b2b_payments._auth import LegacyAuth, StoreAuth
from b2b_payments._doctor.evidence import Auth, Evidence, Observation, Question, Row, channel_of, page, plain
from b2b_payments._errors import ConfigurationError
from b2b_payments._models import OrderBy, SortBy
from b2b_payments._models.decimals import whole_of
from b2b_payments._protocol import request as requests
from b2b_payments._protocol.query import ChannelEncoding

Questions = Generator[Question, Observation]

FULL = 250
"""The default page size of this library, the largest that the vendor documents."""
LARGER = 500
_SMALLER = (249, 200, 100, 50)
_EDGES = (500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 1_000_000)
_MAX_CHANNELS = 4
_REFUSALS = frozenset({401, 403, 404, 500})  # statuses of a request with a wrong credential
_UNKNOWN_CHANNEL = 987_654_321


def examination(evidence: Evidence, others: Sequence[Auth]) -> Questions:
    """Yield the questions. `others` are credentials to try if the first does not work."""
    listed = yield plain()
    if not listed.is_success:
        for other in others if listed.status in _REFUSALS else ():
            if (yield plain("other", other)).is_success:
                evidence.auth = other
                listed = yield plain()
                break
        if not listed.is_success:
            return
    elif isinstance(evidence.auth, LegacyAuth) and (newer := _as_store_auth(evidence.auth, listed.rows)):
        yield plain("newer", newer)
    yield from _pages()
    yield from _channels(evidence)
    yield from _filters(evidence)
    yield from _by_id(evidence)


def _as_store_auth(auth: LegacyAuth, rows: Sequence[Row]) -> StoreAuth | None:
    try:
        return StoreAuth(str(rows[0].get("storeHash")), auth.auth_token) if rows else None
    except ConfigurationError:
        return None


def _pages() -> Questions:
    first = yield page("first", FULL)
    if first.status == 413:
        for size in _SMALLER:
            first = yield page("first", size)
            if first.status != 413:
                break
    if not first.is_success:
        return
    size = first.requested("limit") or FULL
    yield page("again", size)
    yield page("larger", LARGER)
    yield page("one", 1, 1)
    last = yield page("last", size, order=OrderBy.DESC)
    yield page("updated", size, sort=SortBy.UPDATED_AT, order=OrderBy.DESC)
    total = first.total
    if total is None or total <= len(first.rows):
        # Are there rows after what the service says is the end?
        if first.rows:
            yield page("beyond", 1, len(first.rows) + 1)
        return
    tail = yield page("tail", size, max(total - len(first.rows), len(first.rows) // 2))
    if tail.is_success and not tail.rows:
        yield from _paging_window(len(first.rows) - 1, tail.requested("offset") or total)
        return
    end = (tail.requested("offset") or 0) + len(tail.rows)
    if tail.rows and last.ids[:1] and last.ids[0] not in tail.ids:
        yield page(f"at {end}", 1, end)
    yield page("beyond", 1, total + 1)


def _paging_window(shown: int, empty: int) -> Questions:
    """Find the offset from which pages are empty, between `shown`, which has a row, and `empty`."""
    edges = [edge for edge in _EDGES if shown < edge < empty]
    while edges:
        middle = edges[len(edges) // 2]
        single = yield page(f"at {middle}", 1, middle)
        if single.rows:
            shown, edges = middle, [edge for edge in edges if edge > middle]
        else:
            empty, edges = middle, [edge for edge in edges if edge < middle]
    yield page(f"at {empty - 1}", 1, empty - 1)


def _channels(evidence: Evidence) -> Questions:
    listed = yield Question("channels", requests.list_channels())
    channels = channel_ids(listed)
    if len(channels) < 2:
        return
    pair = _pair(evidence, channels)
    understood: ChannelEncoding | None = None
    for encoding in ChannelEncoding:
        filtered = yield page(f"as {encoding.name}", evidence.page_size, filters=tuple(encoding.pairs(pair)))
        if understood is None and encoding_outcome(evidence, filtered) == "understood":
            understood = encoding
    for place, channel in enumerate(channels if understood and len(channels) <= _MAX_CHANNELS else ()):
        assert understood is not None  # noqa: S101 - else no channel is requested
        yield page(f"channel {place}", 1, filters=tuple(understood.pairs([channel])))


def _pair(evidence: Evidence, channels: Sequence[int]) -> Sequence[int]:
    """Return two channels to filter by, so that other channels' payments show up if the filter is ignored."""
    counted = Counter(channel_of(row) for row in evidence.unfiltered_rows)
    hidden = [channel for channel in channels if not counted[channel]]
    common = sorted(channels, key=lambda channel: -counted[channel])
    if hidden:
        return hidden[:2] if len(hidden) > 1 else (hidden[0], _UNKNOWN_CHANNEL)
    return common[:2] if len(channels) > 2 else (common[0], _UNKNOWN_CHANNEL)


def encoding_outcome(evidence: Evidence, filtered: Observation) -> str:
    """Say how the service treated an encoding of `channelIds`."""
    if filtered.status is not None:
        return f"refused {filtered.status}"
    texts = [value for name, value in filtered.question.request.query if name.startswith("channelIds")]
    requested = {int(text) for value in texts for text in value.split(",")}
    received = {channel_of(row) for row in filtered.rows} - {None}
    if received - requested:
        return "ignored"
    if not filtered.is_success or {channel_of(row) for row in evidence.get("first").rows} <= requested:
        return "unknown"  # the rows would be the same if it were ignored
    existing = requested & {channel_of(row) for row in evidence.rows}
    if not received:
        return "found nothing" if existing else "unknown"
    return "understood" if received >= existing else "read in part"


def channel_ids(listed: Observation) -> list[int]:
    """Return the ids in a list of channels by which `channelIds` filters."""
    return [channel for row in listed.rows if (channel := channel_of(row)) is not None]


def _filters(evidence: Evidence) -> Questions:
    rows, size = evidence.unfiltered_rows, evidence.page_size
    statuses = Counter(whole_of(row.get("processingStatus")) for row in rows)
    # If all rows match a filter, they do not show whether it is applied.
    if len(statuses) > 1 and (status := statuses.most_common(1)[0][0]) is not None:
        yield page("processingStatus", size, filters=(("processingStatus", str(status)),))
    items = [item for row in rows if isinstance(value := row.get("lineItems"), list) for item in value]
    if invoice := next((whole_of(item.get("invoiceId")) for item in items if isinstance(item, dict)), None):
        yield page("invoiceId", size, filters=(("invoiceId", str(invoice)),))
    names = {name for row in rows if isinstance(name := row.get("customerName"), str) and name.strip()}
    if len(names) > 1:
        yield page("customerName", size, filters=(("customerName", max(names, key=len)),))
    if len(rows) > 1 and (
        payment_id := min(filter(None, (whole_of(row.get("id")) for row in rows)), default=0)
    ):
        yield page("q", size, filters=(("searchBy", "id"), ("q", str(payment_id))))


def _by_id(evidence: Evidence) -> Questions:
    ids = [payment_id for payment_id in map(whole_of, (row.get("id") for row in evidence.rows)) if payment_id]
    if not ids:
        return
    newest = next((payment_id for payment_id in evidence.get("last").ids if payment_id), max(ids))
    yield Question("newest", requests.get_payment(newest))
    yield Question("next", requests.get_payment(max(ids) + 1))
