"""What to ask, one question after another, each by what came of those before. It does no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence

from b2b_payments._auth import LegacyAuth, StoreAuth
from b2b_payments._doctor.evidence import Auth, Evidence, Question, Row, Seen, channel_of, page, plain
from b2b_payments._errors import ConfigurationError
from b2b_payments._models import OrderBy, SortBy
from b2b_payments._models.decimals import whole_of
from b2b_payments._protocol import request as requests
from b2b_payments._protocol.query import ChannelEncoding

Questions = Generator[Question, Seen]

FULL = 250
"""Rows of a page that this library asks for as a rule, the most that the vendor documents."""
LARGER = 500
_SMALLER = (249, 200, 100, 50)
_EDGES = (500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 1_000_000)
_MOST_CHANNELS = 4
_CREDENTIAL = frozenset({401, 403, 404, 500})
_UNKNOWN_CHANNEL = 987_654_321


def examination(evidence: Evidence, others: Sequence[Auth]) -> Questions:
    """Yield the questions. `others` are credentials to try where the first does not work."""
    seen = yield plain()
    if not seen.is_success:
        for other in others if seen.status in _CREDENTIAL else ():
            if (yield plain("other", other)).is_success:
                evidence.auth = other
                seen = yield plain()
                break
        if not seen.is_success:
            return
    elif isinstance(evidence.auth, LegacyAuth) and (newer := _as_store_auth(evidence.auth, seen.rows)):
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
    size = first.parameter("limit") or FULL
    yield page("again", size)
    yield page("larger", LARGER)
    yield page("one", 1, 1)
    last = yield page("last", size, order=OrderBy.DESC)
    yield page("updated", size, sort=SortBy.UPDATED_AT, order=OrderBy.DESC)
    total = first.total
    if total is None or total <= len(first.rows):
        # Whether anything comes behind what the service says is all.
        if first.rows:
            yield page("beyond", 1, len(first.rows) + 1)
        return
    tail = yield page("tail", size, max(total - len(first.rows), len(first.rows) // 2))
    if tail.is_success and not tail.rows:
        yield from _window(len(first.rows) - 1, tail.parameter("offset") or total)
        return
    end = (tail.parameter("offset") or 0) + len(tail.rows)
    if tail.rows and last.ids[:1] and last.ids[0] not in tail.ids:
        yield page(f"at {end}", 1, end)
    yield page("beyond", 1, total + 1)


def _window(shown: int, empty: int) -> Questions:
    """Look for the position from which on no rows come: rows come at `shown`, and none at `empty`."""
    edges = [edge for edge in _EDGES if shown < edge < empty]
    while edges:
        middle = edges[len(edges) // 2]
        one = yield page(f"at {middle}", 1, middle)
        if one.rows:
            shown, edges = middle, [edge for edge in edges if edge > middle]
        else:
            empty, edges = middle, [edge for edge in edges if edge < middle]
    yield page(f"at {empty - 1}", 1, empty - 1)


def _channels(evidence: Evidence) -> Questions:
    listed = yield Question("channels", requests.list_channels())
    known = channel_ids(listed)
    if len(known) < 2:
        return
    pair = _pair(evidence, known)
    understood: ChannelEncoding | None = None
    for encoding in ChannelEncoding:
        one = yield page(f"spelled {encoding.name}", evidence.size, filters=tuple(encoding.pairs(pair)))
        if understood is None and spelling(evidence, one) == "understood":
            understood = encoding
    for place, channel in enumerate(known if understood and len(known) <= _MOST_CHANNELS else ()):
        assert understood is not None  # noqa: S101 - there is none to ask for else
        yield page(f"channel {place}", 1, filters=tuple(understood.pairs([channel])))


def _pair(evidence: Evidence, known: Sequence[int]) -> Sequence[int]:
    """Return two channels to ask for: so that payments of others come where that is ignored."""
    counted = Counter(channel_of(row) for row in evidence.whole)
    hidden = [channel for channel in known if not counted[channel]]
    common = sorted(known, key=lambda channel: -counted[channel])
    if hidden:
        return hidden[:2] if len(hidden) > 1 else (hidden[0], _UNKNOWN_CHANNEL)
    return common[:2] if len(known) > 2 else (common[0], _UNKNOWN_CHANNEL)


def spelling(evidence: Evidence, one: Seen) -> str:
    """Say what became of a spelling of `channelIds`."""
    if one.status is not None:
        return f"refused {one.status}"
    texts = [value for name, value in one.question.request.query if name.startswith("channelIds")]
    asked = {int(text) for value in texts for text in value.split(",")}
    given = {channel_of(row) for row in one.rows} - {None}
    if given - asked:
        return "ignored"
    if not one.is_success or {channel_of(row) for row in evidence.get("first").rows} <= asked:
        return "unknown"  # it would look the same where it is ignored
    there = asked & {channel_of(row) for row in evidence.rows}
    if not given:
        return "found nothing" if there else "unknown"
    return "understood" if given >= there else "read in part"


def channel_ids(listed: Seen) -> list[int]:
    """Return the ids of channels that `channelIds` takes."""
    return [one for row in listed.rows if (one := channel_of(row)) is not None]


def _filters(evidence: Evidence) -> Questions:
    rows, size = evidence.whole, evidence.size
    statuses = Counter(whole_of(row.get("processingStatus")) for row in rows)
    # Where all are alike, rows do not show whether a filter is kept.
    if len(statuses) > 1 and (status := statuses.most_common(1)[0][0]) is not None:
        yield page("processingStatus", size, filters=(("processingStatus", str(status)),))
    items = [item for row in rows if isinstance(found := row.get("lineItems"), list) for item in found]
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
    ids = [one for one in map(whole_of, (row.get("id") for row in evidence.rows)) if one]
    if not ids:
        return
    newest = next((one for one in evidence.get("last").ids if one), max(ids))
    yield Question("newest", requests.get_payment(newest))
    yield Question("next", requests.get_payment(max(ids) + 1))
