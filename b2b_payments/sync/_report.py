"""The report of a sync."""

from __future__ import annotations

from datetime import datetime

from b2b_payments._printable import counted, define


@define
class Counts:
    """What a batch did to the copy, as numbers of payments."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0


@define
class SyncReport:
    """The report of one sync.

    Received payments count as `inserted` if they were new, as `updated` if they replaced another version, and
    as `unchanged` if the copy had the same version or a newer one. `deleted` counts payments removed from the
    copy because the service itself said that they do not exist. `swept` says that the whole store was read,
    which finds payments that were deleted before that read. `resumed` says that an earlier sync had started
    this full read. `requests` counts this sync's requests, retries included, and `waited` the seconds that
    they waited for the quota.

    Payments that the list contradicts are looked up by id: `looked_up` of them, of which `put_right` still
    exist and are now in the copy as the service has them. `candidates` are left for a later sync.

    `complete` is True if the copy has every change that the list showed when the sync began, and no candidate
    is left. Otherwise the next sync does the rest, and `caveat` says why. `watermark` is the time, in UTC by
    the service's clock, up to which the copy has all changes; None for a store that has no payments or whose
    list is not sorted by `updatedAt`.
    """

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    requests: int = 0
    complete: bool = False
    swept: bool = False
    resumed: bool = False
    watermark: datetime | None = None
    looked_up: int = 0
    put_right: int = 0
    candidates: int = 0
    caveat: str | None = None
    waited: float = 0.0

    def __str__(self) -> str:
        state = "in sync" if self.complete else "not in sync yet"
        deletions_checked = self.swept or self.looked_up
        deleted = f"{self.deleted:,} deleted" if deletions_checked else "deletions not checked"
        resumed = ", with the full read that an earlier sync began" if self.resumed else ""
        looked_up = ""
        if self.looked_up:
            looked_up = f", {self.looked_up:,} looked up by id ({self.put_right:,} still there)"
        caveat = f"; {self.caveat}" if self.caveat else ""
        return (
            f"{state}{resumed}: {self.inserted:,} inserted, {self.updated:,} updated, {deleted}, "
            f"{self.unchanged:,} unchanged{looked_up}, "
            f"{counted(self.requests, 'request')}{caveat}"
        )

    def add(self, counts: Counts) -> None:
        """Add the counts of a batch."""
        self.inserted += counts.inserted
        self.updated += counts.updated
        self.unchanged += counts.unchanged
