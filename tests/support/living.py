"""A living store and its client, without a socket: requests are answered by the loop's clock."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import anyio
import attrs

from b2b_payments import PaymentsClient
from b2b_payments._call import Spent, Tally
from b2b_payments._errors import TransportError
from b2b_payments._mixups import MixUps
from b2b_payments._protocol.answer import Answer
from b2b_payments._protocol.request import Request
from b2b_payments._quota import Priority
from b2b_payments._resources.payments import Payments
from b2b_payments._tasks import Tasks
from b2b_payments._walk.service_limits import ServiceLimits
from b2b_payments._walk.walk import Walker
from b2b_payments.events import Events
from b2b_payments.sandbox import Rules, Sandbox, SeenRequest
from b2b_payments.sandbox._service import ROOT, answer, is_list
from tests.support.synced import LAG, LivingStore, uneven_lag

BASE = f"http://127.0.0.1{ROOT}"


@attrs.define
class Direct:
    """Passes requests to a sandbox that does not listen, one by one.

    `fails`, `empty` and `gateway` are the probabilities that the connection fails, that a list is empty, and
    that a gateway answers 404 to a request for one payment.
    """

    sandbox: Sandbox
    draw: random.Random
    fails: float = 0.0
    empty: float = 0.0
    gateway: float = 0.0
    requests: int = 0
    events: Events = attrs.field(factory=Events)
    mixups: MixUps = attrs.field(factory=MixUps)

    async def read(self, request: Request, reader: Any, *, tally: Any) -> Any:
        """Answer a request; answers overtake one another."""
        await anyio.sleep(self.draw.uniform(0, 0.5))
        self.requests += 1
        tally.requests += 1
        if self.draw.random() < self.fails:
            raise TransportError("no connection")
        query = [(name, str(value)) for name, value in request.query]
        assert self.sandbox.before_list is not None
        self.sandbox.before_list(
            self.sandbox.store, SeenRequest(request.method, ROOT + request.path, query, {}, 0.0)
        )
        answered = answer(self.sandbox.store, request.method, ROOT + request.path, query, None)
        await anyio.sleep(self.draw.uniform(0, 0.5))
        headers = {
            "Date": format_datetime(datetime.fromtimestamp(self.sandbox.store.clock, UTC), usegmt=True)
        }
        status, body = answered.status, answered.body
        if is_list(request.method, ROOT + request.path):
            if self.draw.random() < self.empty:
                body = b'{"code":200,"data":[],"meta":{"pagination":{"totalCount":0}}}'
        elif self.draw.random() < self.gateway:
            status, body = 404, b"<html></html>"
        return reader(request, Answer(status, headers, body), BASE)


@attrs.define
class DirectCaller:
    """A caller without deadline, whose requests a `Direct` answers."""

    direct: Direct
    tally: Tally = attrs.field(factory=Spent)
    priority: Priority = Priority.PAGE

    @property
    def events(self) -> Events:
        """Where the walks' events go."""
        return self.direct.events

    @property
    def mixups(self) -> MixUps:
        """What was learned about mixed-up answers."""
        return self.direct.mixups

    def chance(self) -> float:
        """Return a number from 0 to 1."""
        return self.direct.draw.random()

    def timed(self) -> DirectCaller:
        """Return this caller."""
        return self

    async def read(self, request: Request, reader: Any) -> Any:
        """Answer a request."""
        return await self.direct.read(request, reader, tally=self.tally)


def drawn(draw: random.Random) -> tuple[Sandbox, float]:
    """Draw a store and its rules, and the most seconds that its lists lag."""
    lag = draw.choice([0.0, LAG, LAG])
    rules = Rules(
        quota=False,
        equals=draw.choice(["stable", "shuffled"]),
        max_limit=draw.choice([10, 10, 30, 250]),
        list_lag=uneven_lag(draw.randrange(1000)) if lag else 0.0,
        total_count=draw.choice(["filtered", "filtered", "filtered", "absent"]),
        short_pages=draw.choice([0, 0, 0.2]),
        ids_as=draw.choice(["number", "fraction", "string"]),
    )
    return Sandbox(payments=draw.choice([0, 1, 20, 60, 120]), seed=draw.randrange(1000), rules=rules), lag


@asynccontextmanager
async def living_store(
    seed: int, draw: random.Random
) -> AsyncIterator[tuple[Sandbox, LivingStore, Direct, Any]]:
    """Yield a sandbox that keeps changing, the `Direct` that passes requests to it, and a client."""
    sandbox, _ = drawn(draw)
    tasks = Tasks()
    await tasks.start()
    direct = Direct(sandbox, draw)
    caller: Any = DirectCaller(direct)
    client = PaymentsClient(sandbox.auth, base_url=BASE)
    client.payments = Payments(Walker(caller, ServiceLimits(), tasks, "a store"), caller)
    # A list that grows faster than it is read has no end; one without a total ends only when nothing changes.
    during = draw.choice([0, 0.2, 0.2 if sandbox.rules.total_count == "absent" else 0.6])
    living = LivingStore(sandbox, seed, during=during, many=draw.choice([3, 15]))
    try:
        yield sandbox, living, direct, client
    finally:
        await tasks.stop()
