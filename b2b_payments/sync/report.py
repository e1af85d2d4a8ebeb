"""What a sync says of itself."""

from __future__ import annotations

from datetime import datetime

import attrs


@attrs.define
class Changes:
    """What a batch did to the copy, in payments."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0


@attrs.define
class SyncReport:
    """The account of one sync.

    `inserted`, `updated`, `deleted` and `unchanged` are payments: of those that came, how many were new, how
    many were put in place of another version, and how many the copy held as they came, or newer;
    `deleted` ones did not come any more. Payments that did not change and did not come count nowhere.
    `swept` says that the whole store was read, so that what was deleted before that reading began is gone
    from the copy. `resumed` says that this reading had been begun by an earlier sync. `requests` are those
    of this sync, retries included.

    `complete` is True once the copy has every change that the list showed when the sync began; until then
    the next sync does the rest. `watermark` is how far that goes in the service's own time, in UTC, and None
    for a store without payments.
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

    def __str__(self) -> str:
        state = "in step" if self.complete else "not in step yet"
        deleted = f"{self.deleted:,} deleted" if self.swept else "deleted ones not looked for"
        resumed = ", with the reading that an earlier sync had begun" if self.resumed else ""
        return (
            f"{state}{resumed}: {self.inserted:,} inserted, {self.updated:,} updated, {deleted}, "
            f"{self.unchanged:,} unchanged, {self.requests:,} request{'s' * (self.requests != 1)}"
        )

    def add(self, changes: Changes) -> None:
        """Count what a batch did."""
        self.inserted += changes.inserted
        self.updated += changes.updated
        self.unchanged += changes.unchanged
