"""All findings on a service, from what was seen of it."""

from __future__ import annotations

from collections.abc import Callable

from b2b_payments._doctor import access, filters, lists, rows
from b2b_payments._doctor.evidence import Evidence
from b2b_payments._doctor.finding import Finding

_ALL: tuple[Callable[[Evidence], Finding], ...] = (
    access.authentication, rows.store, access.clock, access.quota_headers, access.quota, access.window,
    access.other_programs, access.refused_meanwhile,
    lists.page_size, lists.stated_limit, lists.offset, lists.default_page, lists.order, lists.equals,
    lists.totals, lists.paging_window, filters.filters, filters.filtered_totals,
    filters.channels, filters.channel_spelling, filters.other_spellings, filters.default_channels,
    rows.by_id, rows.lag, rows.unreadable, rows.unknown_fields, rows.unknown_values, rows.spellings,
)  # fmt: skip


def findings(evidence: Evidence) -> list[Finding]:
    """Give the findings, one a topic; the first alone where the service could not be used."""
    if not evidence.get("plain").is_success:
        return [access.authentication(evidence)]
    return [finding(evidence) for finding in _ALL]
