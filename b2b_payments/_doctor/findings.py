"""All findings about a service, drawn from the evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from b2b_payments._doctor import access, filters, lists, rows
from b2b_payments._doctor.evidence import Evidence
from b2b_payments._doctor.finding import Finding

_BY_TOPIC: Mapping[str, Callable[[Evidence], Finding]] = {
    "authentication": access.authentication,
    "store": rows.store,
    "clock": access.clock,
    "quota headers": access.quota_headers,
    "quota": access.quota,
    "quota window": access.window,
    "other programs": access.other_programs,
    "failures": access.failures,
    "page size": lists.page_size,
    "stated limit": lists.stated_limit,
    "offset": lists.offset,
    "default list": lists.default_page,
    "order": lists.order,
    "order among equals": lists.order_among_equals,
    "totals": lists.totals,
    "paging window": lists.paging_window,
    "filters": filters.filters,
    "totals under filters": filters.filtered_totals,
    "channels": filters.channels,
    "channelIds": filters.channel_encoding,
    "channelIds otherwise": filters.other_encodings,
    "list without channelIds": filters.default_channels,
    "reading by id": rows.by_id,
    "list lag": rows.lag,
    "unreadable": rows.unreadable,
    "unknown fields": rows.unknown_fields,
    "unknown values": rows.unknown_values,
    "spellings": rows.data_formats,
}


def findings(evidence: Evidence) -> dict[str, Finding]:
    """Return the findings by topic, or only the first if the service could not be used."""
    usable = evidence.get("plain").is_success
    return {topic: find(evidence) for topic, find in _BY_TOPIC.items() if usable or topic == "authentication"}
