"""Settles by id the payments that the list contradicts: the only way a payment leaves a copy.

A list is not proof: it may lag, or show only a part of the payments. Where it contradicts the copy, it only
makes *candidates*, which stay in the copy until the service was asked for each of them by id:

- payments that a complete full read did not show: they are *missing*;
- payments that a list shows in an older version than the copy's, although the copy's was written longer ago
  than lists lag, as after the service was restored from a backup.

GET by id does not lag [seen]. A payment that it returns is written to the copy. A payment for which it
answers 404 is deleted if

- the 404 has the service's own envelope: a gateway's 404 says nothing;
- GET by id returned a payment that the list showed in this same run, both before and after those 404s: a
  missing scope shows as 404, too [seen];
- if answers were mixed up recently, a second lookup, with no other request in flight, gets 404 again: the
  first 404 may be the answer to another request;
- no more than a fifth of the copy is missing, or the caller allows more: a scope that hides payments may hide
  them from the list and from GET by id alike.

An incomplete full read makes no payment missing, since one that it did not show may come later in the list.
It does not keep candidates from being settled, since settling does not depend on what it showed. A candidate
survives syncs and crashes until it is settled or the list shows it again; each batch of answers is written in
one transaction. Candidates are looked up in random order, so that those that cannot be settled do not block
the others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import anyio

from b2b_payments._errors import NotFoundError
from b2b_payments._printable import define
from b2b_payments._resources.payments import Payments
from b2b_payments.export._worker import Worker
from b2b_payments.sync._copy import Candidates, Copy
from b2b_payments.sync._report import SyncReport

MAX_LOOKUPS = 500
"""The default of how many candidates one sync looks up at most."""
MAX_MISSING = 0.2
"""The share of a copy that may be missing unless mass deletion is allowed …"""
ALWAYS_ALLOWED = 10
"""… and the number of payments that may always be missing, however small the copy is."""

_BATCH = 50
_CONCURRENCY = 8

_NO_CONTROL = (
    "the list shows no payment, so a deletion cannot be told from a missing scope: sync again, or into "
    "another copy if the store is really empty"
)
_CONTROL_FAILED = (
    "the service answers 404 even for a payment that its list shows: check what the credential may read, "
    "and sync again"
)


@define
class Settling:
    """Settles candidates, and updates the report.

    `listed_ids` are ids that the list showed in this run. `notify` is called with payments before they are
    corrected in the copy. Raises what `Payments.look_up_text`, `Copy` and `notify` raise, except for 404s;
    what was settled before an error stays settled.
    """

    payments: Payments
    copy: Copy
    worker: Worker
    report: SyncReport
    listed_ids: list[int]
    notify: Callable[[Sequence[bytes]], Awaitable[None]]
    allow_mass_deletion: bool

    async def settle(self, most_lookups: int) -> None:
        """Look up at most `most_lookups` candidates. The report says how many are left, and why."""
        candidates = await self.worker.do(self.copy.candidates, most_lookups)
        if not candidates.total:
            return
        self.report.candidates = candidates.total
        reason = await self._settle(candidates)
        if self.report.candidates:
            caveat = f"the list contradicts {self.report.candidates:,} more: {reason}"
            self.report.caveat = caveat if self.report.caveat is None else f"{self.report.caveat}; {caveat}"

    async def _settle(self, candidates: Candidates) -> str:
        """Look up the chosen candidates. Returns the reason why any are left."""
        if not self.listed_ids:
            return _NO_CONTROL
        if not await self._control_succeeds():
            return _CONTROL_FAILED
        missing, kept, foreign_404s = candidates.missing, 0, 0
        allowed = max(ALWAYS_ALLOWED, MAX_MISSING * candidates.payments)
        ids = list(candidates.chosen)
        for start in range(0, len(ids), _BATCH):
            batch = ids[start : start + _BATCH]
            answers = await self._look_up(batch)
            existing = [row for row in answers.values() if row is not None]
            gone = [payment_id for payment_id, row in answers.items() if row is None]
            if gone and not await self._control_succeeds():
                await self._write(existing, [])
                return _CONTROL_FAILED
            if gone and self.payments.recently_mixed_up:
                answers = await self._look_up_again(answers)
                existing = [row for row in answers.values() if row is not None]
                gone = [payment_id for payment_id, row in answers.items() if row is None]
            # Missing: those that got 404, and those not looked up yet that the list did not show.
            missing += len(gone) - sum(candidates.chosen[payment_id] for payment_id in answers)
            foreign_404s += len(batch) - len(answers)
            too_many = missing > allowed and not self.allow_mass_deletion
            await self._write(existing, [] if too_many else gone)
            kept += len(gone) * too_many
            if too_many and not existing:
                break
        if kept:
            return (
                f"{missing:,} of {candidates.payments:,} payments are missing, too many to delete unasked: "
                "sweep again, with mass deletion allowed (--allow-mass-deletion) if they are really gone"
            )
        if foreign_404s:
            return "some 404s were not from the service itself: sync again"
        return "sync again to look up the rest"

    async def _write(self, existing: Sequence[bytes], gone: Sequence[int]) -> None:
        await self.notify(existing)
        await self.worker.do(self.copy.settle, existing, gone)
        self.report.put_right += len(existing)
        self.report.deleted += len(gone)
        self.report.candidates -= len(existing) + len(gone)

    async def _control_succeeds(self) -> bool:
        """Whether GET by id returns some payment that the list showed. Drops ids for which it does not."""
        while self.listed_ids:
            try:
                if await self.payments.look_up_text(self.listed_ids[-1], tally=self.report) is not None:
                    return True
            except NotFoundError:
                pass  # not the service's own 404
            self.listed_ids.pop()
        return False

    async def _look_up(self, payment_ids: Sequence[int]) -> dict[int, bytes | None]:
        """Return the answers of GET by id: None for the service's own 404; other 404s are left out."""
        answers: dict[int, bytes | None] = {}
        failures: list[Exception] = []
        remaining = iter(payment_ids)

        async def work() -> None:
            for payment_id in remaining:
                try:
                    answers[payment_id] = await self.payments.look_up_text(payment_id, tally=self.report)
                except NotFoundError:
                    continue
                except Exception as failure:  # noqa: BLE001 - raised below, outside the task group
                    failures.append(failure)
                    group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for _ in range(_CONCURRENCY):
                group.start_soon(work)
        if failures:
            raise failures[0]
        self.report.looked_up += len(payment_ids)
        return answers

    async def _look_up_again(self, answers: dict[int, bytes | None]) -> dict[int, bytes | None]:
        """Repeat each lookup that got 404, one at a time on a new connection, and return the new answers.

        No other request of this run is in flight meanwhile. An existing payment is looked up before each, so
        that a late 404 to the previous lookup is not mistaken for this one's answer.
        """
        confirmed: dict[int, bytes | None] = {}
        for payment_id, row in answers.items():
            if row is not None:
                confirmed[payment_id] = row
            elif await self._control_succeeds():
                try:
                    confirmed[payment_id] = await self.payments.look_up_text(payment_id, tally=self.report)
                except NotFoundError:
                    continue
        return confirmed
