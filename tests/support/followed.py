"""Followers of a living store that are killed and restarted, and the versions that they got."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from contextlib import aclosing
from functools import partial
from typing import Any

import attrs

from b2b_payments import Change, to_wire
from b2b_payments._call import Spent
from b2b_payments._errors import TransportError
from b2b_payments._protocol.listing import read_listing
from b2b_payments._protocol.request import list_payments
from b2b_payments.events import Event, Events, FollowWait
from tests.support.living import Direct, living_store
from tests.support.synced import LAG, Lived, LivingStore, Version, version_of

YEARS = 4 * 365 * 86_400


@attrs.define
class Life:
    """The result of following one store, with a feed or a naive loop, as numbers of versions."""

    lasting: int = 0
    """Shown by the lists during a whole poll."""
    missing: int = 0
    """Lasting, but not yielded."""
    twice: int = 0
    never: int = 0
    """Yielded, although the store never had them."""
    given: int = 0
    kills: int = 0
    polls: int = 0
    requests: int = 0

    def __add__(self, other: Life) -> Life:
        mine, theirs = attrs.astuple(self), attrs.astuple(other)
        return Life(*(one + another for one, another in zip(mine, theirs, strict=True)))


@attrs.define
class Kept:
    """What survives a killed follower: the versions it got and its checkpoint, committed together."""

    given: list[tuple[int, Version]] = attrs.field(factory=list)
    checkpoint: Any = None
    polls: list[tuple[float, float]] = attrs.field(factory=list)
    """Start and end of the polls that were completed."""

    def life(self, living: LivingStore) -> Life:
        """Compare what was yielded with what the store had."""
        came = Counter(self.given)
        lasting = [one for one in living.lived if self._was_shown(one)]
        return Life(
            lasting=len(lasting),
            missing=sum((one.id, one.version) not in came for one in lasting),
            twice=sum(count - 1 for count in came.values()),
            never=sum(version not in living.had.get(payment_id, ()) for payment_id, version in came),
            given=len(self.given),
            polls=len(self.polls),
        )

    def _was_shown(self, lived: Lived) -> bool:
        if not self.polls or lived.written < self.polls[0][1]:
            return False
        shown = lived.written + LAG + 1
        return any(shown <= began and ended <= lived.ended for began, ended in self.polls[1:])


async def life(seed: int, follower: Any = None) -> Life:
    """Follow a living store with a follower that is killed at random, and compare what it got."""
    draw = random.Random(f"life {seed}")
    follower = follower or follow
    kept, kills = Kept(), 0
    async with living_store(seed, draw) as (_, living, direct, client):
        backup = living.back_up()
        living.during = min(living.during, 0.2)
        interval = draw.choice([60.0, 120.0, 300.0])
        running = asyncio.create_task(follower(client, direct, kept, interval, draw))
        for _step in range(draw.randint(10, 25)):
            await asyncio.sleep(draw.choice([0.3, 1, 60, 600, 600]))
            match draw.choices(
                ("change", "kill", "outage", "backup", "restore", "future"), (14, 5, 2, 1, 1, 1)
            )[0]:
                case "change":
                    living.change(draw.randint(1, 4))
                case "kill":
                    await _kill(running)
                    kills += 1
                    await asyncio.sleep(draw.choice([0, 1, 600, 2 * 3600]))
                    living.change(draw.randint(0, 3))
                    running = asyncio.create_task(follower(client, direct, kept, interval, draw))
                case "outage":
                    direct.fails = draw.choice([0.3, 1.0])
                    await asyncio.sleep(draw.choice([10, 900, 2 * 3600]))
                    direct.fails = 0.0
                case "backup":
                    backup = living.back_up()
                case "restore" if backup.versions:
                    living.restore(backup)
                case "future":
                    living.change_in_the_future(draw.choice([5, 86_400, YEARS]))
        living.during = direct.fails = 0
        await asyncio.sleep(2 * LAG + 3 * 600)
        await _kill(running)
        return attrs.evolve(kept.life(living), kills=kills, requests=direct.requests)


async def _kill(running: asyncio.Task[None]) -> None:
    if running.done():
        running.result()  # raises the error that ended it
    running.cancel()
    await asyncio.wait([running])


async def follow(client: Any, direct: Direct, kept: Kept, interval: float, draw: random.Random) -> None:
    """Follow forever, from the stored checkpoint."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    def listen(event: Event) -> None:
        nonlocal began
        if isinstance(event, FollowWait):
            if event.reason in {"interval", "quota"}:
                kept.polls.append((began, loop.time()))
                kept.checkpoint = feed.checkpoint()
            began = loop.time() + event.seconds

    direct.events = Events(listen)
    feed = client.payments.changes(kept.checkpoint, follow=True, interval=interval)
    async with aclosing(feed):
        async for change in feed:
            await asyncio.sleep(draw.choice([0, 0, 0, 0, 0.1, 3]))
            _commit(kept, change)


def _commit(kept: Kept, change: Change) -> None:
    kept.given.append((change.payment.id, version_of(to_wire(change.payment))))
    kept.checkpoint = json.loads(json.dumps(change.checkpoint))


async def naive_loop(client: Any, direct: Direct, kept: Kept, interval: float, draw: random.Random) -> None:
    """Do what everyone writes: newest first by updatedAt, page by page, down to a watermark."""
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        try:
            newest, rows = await _naive_poll(direct, kept.checkpoint)
        except TransportError:
            pass
        else:
            kept.given += rows
            kept.checkpoint = newest
            kept.polls.append((began, loop.time()))
        await asyncio.sleep(interval)


async def _naive_poll(direct: Direct, watermark: int | None) -> tuple[int | None, list[tuple[int, Version]]]:
    newest, rows, offset = watermark, list[tuple[int, Version]](), 0
    while True:
        query = (("sortBy", "updatedAt"), ("orderBy", "DESC"), ("offset", str(offset)), ("limit", "250"))
        reader = partial(read_listing, offset=offset)
        page = await direct.read(list_payments(query), reader, tally=Spent())
        for row in page.objects():
            if watermark is None or row["updatedAt"] <= watermark:
                return max(newest or 0, row["updatedAt"]), rows
            newest = max(newest or 0, row["updatedAt"])
            rows.append((int(row["id"]), version_of(row)))
        if not page.heads:
            return newest, rows
        offset += len(page.heads)
