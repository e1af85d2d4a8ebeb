"""What a sync says of itself."""

from __future__ import annotations

from datetime import datetime

from b2b_payments._printable import counted, define


@define
class Counts:
    """What a batch did to the copy, in payments."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0


@define
class SyncReport:
    """The account of one sync.

    `inserted`, `updated`, `deleted` and `unchanged` are payments: of those that came, how many were new, how
    many were put in place of another version, and how many the copy held as they came, or newer;
    `deleted` ones are gone, as the service itself said. Payments that did not change and did not come count
    nowhere. `swept` says that the whole store was read, to find what was deleted before that reading began.
    `resumed` says that this reading had been begun by an earlier sync. `requests` are those of this sync,
    retries included, and `waited` the seconds that they waited for the quota.

    Payments that the list contradicts are looked up by id: so many were `looked_up`, of which `put_right`
    are still there, and are in the copy now as the service has them. `candidates` are left for a later sync.

    `complete` is True once the copy has every change that the list showed when the sync began, and no
    candidate is left; until then the next sync does the rest, and `caveat` says why. `watermark` is how far
    that goes in the service's own time, in UTC, and None for a store without payments or whose list is not
    sorted by `updatedAt`.
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
        state = "in step" if self.complete else "not in step yet"
        checked = self.swept or self.looked_up
        deleted = f"{self.deleted:,} deleted" if checked else "deletions not checked"
        resumed = ", with the reading that an earlier sync had begun" if self.resumed else ""
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
        """Count what a batch did."""
        self.inserted += counts.inserted
        self.updated += counts.updated
        self.unchanged += counts.unchanged
