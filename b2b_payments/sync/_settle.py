"""Settling by id what the list contradicts: the only way by which a payment leaves a copy.

A list is hearsay: it may lag, or show a part of what is there. So where it contradicts the copy it only makes
*candidates*, which stay in the copy until the service was asked for each of them:

- payments that a complete reading of the whole did not show: they are *missing*;
- payments that a list shows in an older version, though the copy's was written longer ago than lists lag: so
  does a service that was restored from a backup.

GET by id does not lag [seen]. What it gives is put into the copy. What it says does not exist is deleted if

- the service's own envelope says so: a gateway's 404 says nothing;
- GET by id gave a payment that the list showed in this same run, before those answers and again after them:
  a missing scope shows as 404, too [seen];
- where answers were mixed up lately it says so again, asked on its own: a 404 may be another payment's;
- no more than a fifth of the copy is missing, or the caller allows more: a scope that hides payments may hide
  them from the list and from GET by id alike.

A reading that is not complete makes nothing missing, since what it did not show may stand further on. It does
not keep candidates from being settled either, since that rests on none of what it showed. A candidate stays
one over syncs and kills, until it is settled or the list shows it again; each batch of answers is put down in
one transaction. They are looked up in random order, so that those that cannot be settled block no others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio

from b2b_payments._errors import NotFoundError
from b2b_payments._printable import define
from b2b_payments._resources.payments import Payments
from b2b_payments.export._worker import Worker
from b2b_payments.sync._copy import Candidates, Copy
from b2b_payments.sync._report import SyncReport

MOST_LOOKUPS = 500
"""Candidates that a sync looks up at the most, where nothing else is said."""
MOST_MISSING = 0.2
"""The part of a copy that may be missing where mass deletion is not allowed …"""
FEW = 10
"""… and so many payments always may, however small the copy is."""

_BATCH = 50
_CONCURRENCY = 8

Sent = dict[str, Any]
"""A payment as the service sent it."""


_NOTHING_SHOWN = (
    "the list shows no payment by which a deletion could be told from a missing scope: sync again, or into "
    "another file if the store is really empty"
)
_NOT_KNOWN = (
    "the service answers 404 even for a payment that its list shows: check what the credential may read, "
    "and sync again"
)


@define
class Settling:
    """Settles candidates, and says in the report what came of it.

    `shown` are ids that the list showed in this run; `tell` is given payments before they are put right.
    Raises as `Payments.look_up`, `Copy` and `tell` do, except for 404s; what was settled until then stays
    settled.
    """

    payments: Payments
    copy: Copy
    worker: Worker
    report: SyncReport
    shown: list[int]
    tell: Callable[[Sequence[Sent]], Awaitable[None]]
    allow_mass_deletion: bool

    async def settle(self, most_lookups: int) -> None:
        """Look up so many candidates at the most; say in the report which are left, and why."""
        candidates = await self.worker.do(self.copy.candidates, most_lookups)
        if not candidates.total:
            return
        self.report.candidates = candidates.total
        reason = await self._settle(candidates)
        if self.report.candidates:
            left = f"the list contradicts {self.report.candidates:,} more: {reason}"
            self.report.caveat = left if self.report.caveat is None else f"{self.report.caveat}; {left}"

    async def _settle(self, candidates: Candidates) -> str:
        """Look up those chosen; give the reason why any are left."""
        if not self.shown:
            return _NOTHING_SHOWN
        if not await self._knows_one_shown():
            return _NOT_KNOWN
        missing, kept, foreign = candidates.missing, 0, 0
        ids = list(candidates.chosen)
        for start in range(0, len(ids), _BATCH):
            batch = ids[start : start + _BATCH]
            answers = await self._look_up(batch)
            there = [row for row in answers.values() if row is not None]
            gone = [payment_id for payment_id, row in answers.items() if row is None]
            if gone and not await self._knows_one_shown():
                await self._put_down(there, [])
                return _NOT_KNOWN
            if gone and self.payments.mixed_up_lately:
                answers = await self._look_up_again(answers)
                there = [row for row in answers.values() if row is not None]
                gone = [payment_id for payment_id, row in answers.items() if row is None]
            # Missing is what GET by id does not give; of those not looked up yet, what the list did not show.
            missing += len(gone) - sum(candidates.chosen[payment_id] for payment_id in answers)
            foreign += len(batch) - len(answers)
            too_many = missing > max(FEW, MOST_MISSING * candidates.held) and not self.allow_mass_deletion
            await self._put_down(there, [] if too_many else gone)
            kept += len(gone) * too_many
            if too_many and not there:
                break
        if kept:
            return (
                f"{missing:,} of {candidates.held:,} payments are missing, too many to delete unasked: "
                "sweep again, with mass deletion allowed (--allow-mass-deletion) if they are really gone"
            )
        if foreign:
            return "404 came from something else than the service: sync again"
        return "sync again to look up the rest"

    async def _put_down(self, there: Sequence[Sent], gone: Sequence[int]) -> None:
        await self.tell(there)
        await self.worker.do(self.copy.settle, there, gone)
        self.report.put_right += len(there)
        self.report.deleted += len(gone)
        self.report.candidates -= len(there) + len(gone)

    async def _knows_one_shown(self) -> bool:
        """Whether GET by id gives a payment that the list showed; one deleted meanwhile is asked for once."""
        while self.shown:
            try:
                if await self.payments.look_up(self.shown[-1], tally=self.report) is not None:
                    return True
            except NotFoundError:
                pass  # not the service's own answer
            self.shown.pop()
        return False

    async def _look_up(self, payment_ids: Sequence[int]) -> dict[int, Sent | None]:
        """Return what GET by id answers for each of them, but for 404s that are not the service's own."""
        answers: dict[int, Sent | None] = {}
        failures: list[Exception] = []
        line = iter(payment_ids)

        async def work() -> None:
            for payment_id in line:
                try:
                    answers[payment_id] = await self.payments.look_up(payment_id, tally=self.report)
                except NotFoundError:
                    continue
                except Exception as failure:  # noqa: BLE001 - raised below, outside of the group
                    failures.append(failure)
                    group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for _ in range(_CONCURRENCY):
                group.start_soon(work)
        if failures:
            raise failures[0]
        self.report.looked_up += len(payment_ids)
        return answers

    async def _look_up_again(self, answers: dict[int, Sent | None]) -> dict[int, Sent | None]:
        """Return the answers, with those 404s alone that come again, each on a new connection of its own.

        Nothing else of this run is under way meanwhile. A payment that is there is asked for before each, so
        that no 404 is the one before, come late.
        """
        sure: dict[int, Sent | None] = {}
        for payment_id, row in answers.items():
            if row is not None:
                sure[payment_id] = row
            elif await self._knows_one_shown():
                try:
                    sure[payment_id] = await self.payments.look_up(payment_id, tally=self.report)
                except NotFoundError:
                    continue
        return sure
