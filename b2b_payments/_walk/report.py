"""The report of a walk."""

from __future__ import annotations

from collections.abc import Iterable

from b2b_payments._printable import counted, define

_SUMMED = (
    "pages", "requests", "rows", "duplicates", "gaps", "from_other_end", "reread", "looked_up", "waited",
)  # fmt: skip


@define
class WalkReport:
    """The report of a walk, kept up to date while it runs.

    `pages` were joined, with `requests` requests (retries included); `rows` were delivered, `duplicates`
    dropped, `gaps` found and repaired. `total_first` and `total_last` are the service's own count in its
    first and latest answer, None if it gave none. `complete` is True only if the end is proven, in an order
    that allows it (`exact`); `ending` says how, or why not, and what the service claimed; it is None while
    the walk runs. Of the requests, `from_other_end` read pages in the opposite order, the first of which
    proves the end; `reread` closed gaps or tried again where the list seemed to end; `looked_up` read one
    payment by id. `ignored_filters` are filters that some payments still did not match after several
    requests: the service ignores them, applies them differently, or still lists payments that matched
    before a change. `channelIds` among them means that the payments name no channel, and that the service
    lists them for other channels, too, however `channelIds` is written. `storeHash` among them means that
    payments always name another store than the credential does. `waited` is the seconds spent waiting for
    the quota, over all requests.
    """

    exact: bool = True
    pages: int = 0
    requests: int = 0
    rows: int = 0
    duplicates: int = 0
    gaps: int = 0
    from_other_end: int = 0
    reread: int = 0
    looked_up: int = 0
    total_first: int | None = None
    total_last: int | None = None
    complete: bool = False
    ending: str | None = None
    ignored_filters: frozenset[str] = frozenset()
    waited: float = 0.0

    def __str__(self) -> str:
        state = "complete" if self.complete else "not complete"
        if self.ending and not self.complete:
            state = "not proven complete" if self.exact else "every row once, completeness not guaranteed"
        ignored = ""
        if names := ", ".join(sorted(self.ignored_filters - {"storeHash"})):
            ignored = f"; the service may ignore a filter: some payments may not match {names}"
        if "storeHash" in self.ignored_filters:
            ignored += "; the payments name another store than the credential does"
        return f"{state}: {counted(self.rows, 'payment')}, {counted(self.requests, 'request')}{ignored}"

    @classmethod
    def total(cls, reports: Iterable[WalkReport]) -> WalkReport:
        """Add up the reports of several walks. The total is complete if each of them is."""
        parts = list(reports)
        whole = cls(exact=all(part.exact for part in parts))
        for part in parts:
            for name in _SUMMED:
                setattr(whole, name, getattr(whole, name) + getattr(part, name))
        whole.total_first = _sum(part.total_first for part in parts)
        whole.total_last = _sum(part.total_last for part in parts)
        whole.complete = bool(parts) and all(part.complete for part in parts)
        whole.ignored_filters = frozenset[str]().union(*(part.ignored_filters for part in parts))
        if all(part.ending for part in parts):
            # Where some are incomplete, how the others ended would contradict them.
            telling = [part for part in parts if not part.complete] or parts
            whole.ending = "; ".join(sorted({part.ending for part in telling if part.ending}))
        return whole


def _sum(numbers: Iterable[int | None]) -> int | None:
    known = list(numbers)
    return None if None in known else sum(number for number in known if number is not None)
