"""Services that lie about their lists, drawn at random: their payments, and which lies they tell."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs
from aiohttp import web

from b2b_payments.sandbox import Drift, Fault, Rules, Sandbox, SeenRequest, Store
from b2b_payments.sandbox._answer import Answer
from b2b_payments.sandbox._server import BeforeList
from b2b_payments.sandbox._service import ROOT, is_list
from b2b_payments.sandbox._store import Snapshot
from tests.support.synced import uneven_lag

A_PAYMENT: Final = rf"^{ROOT}/ip/payments/\d+$"
FILTERS: Final = ("processingStatus", "customerName", "invoiceId", "q", "channelIds")


@attrs.define(kw_only=True)
class Service:
    """A drawn service, and how it lies: by `lies` from the start, by `later` from one of its lists on.

    `payments` are created at different times, `together` in the last second, and `backdated` after all of
    these, with an earlier createdAt; then `quiet` seconds pass. `writes` are made before all reads, and lists
    show them after their lag; a `restored` service goes back to its backup, before or during the reads.
    `empties` answers in a row are empty, from list number `from_list` (from 0), and a `share` of all others.
    `twice` is the share of lists with each row twice. With `replicas`, each list is answered by a database
    that has the writes or by one that does not. A share of the requests for one payment are `unseen_in_html`,
    or all are `out_of_scope`. `drift` says what changes before each list. `kinds` names the lies.
    """

    seed: int
    kinds: list[str] = attrs.field(factory=list)
    payments: int = 0
    together: int = 0
    backdated: int = 0
    quiet: int = 0
    page_size: int = 250
    concurrency: int = 1
    lies: dict[str, Any] = attrs.field(factory=dict)
    later: dict[str, Any] = attrs.field(factory=dict)
    from_list: int = 0
    empties: int = 0
    share: float = 0.0
    unseen_in_html: float = 0.0
    out_of_scope: bool = False
    writes: int = 0
    restored: bool = False
    restored_later: bool = False
    replicas: bool = False
    twice: float = 0.0
    drift: dict[str, float] = attrs.field(factory=dict)
    changes: Drift | None = attrs.field(default=None, init=False)
    states: list[Snapshot] = attrs.field(factory=list, init=False)
    """The states that lists are answered from, one or the other."""

    @property
    def rows(self) -> int:
        """Number of payments at the start."""
        return self.payments + self.together + self.backdated

    @property
    def page(self) -> int:
        """Number of rows per page."""
        return min(self.page_size, int(self.lies.get("max_limit", 250)))

    @property
    def honest(self) -> bool:
        """Whether its lists tell the truth, and can be proven to, though they may be awkward to read.

        A list within one second shows no order, a second that is not over has no end, and payments that are
        all deleted look like payments that nobody may see.
        """
        fits = self.together < min(self.page, self.later.get("max_limit", self.page))
        is_past = self.quiet > 0 and not self.drift and self.lies.get("date_header", True)
        # The last second begins with the newest of the `payments`, which are apart in time.
        provable = (fits or is_past) and (self.payments > 1 or self.payments + self.together <= 1)
        stays = not self.drift or self.rows > 60
        return provable and stays and {*_SHAPES, *_AWKWARD} >= set(self.kinds)

    def sandbox(self) -> Sandbox:
        """Make the service with its payments, without its lies."""
        sandbox = Sandbox(payments=self.payments, seed=self.seed % 1000, rules=HONEST)
        store = sandbox.store
        for _ in range(self.together):
            store.insert(created_at=store.clock)
        early = random.Random(f"backdated {self.seed}")
        first = store.created(store.ids()[0]) if store.payments else store.clock
        for _ in range(self.backdated):
            store.insert(created_at=early.randint(first, store.clock))
        store.advance(self.quiet)
        return sandbox

    def begin_to_lie(self, sandbox: Sandbox) -> None:
        """Apply the lies."""
        # Lies `later` than list 0 apply from the start: nothing is shown before.
        sandbox.rules = attrs.evolve(HONEST, **(self.lies | ({} if self.from_list else self.later)))
        old = sandbox.store.snapshot()
        self.write(sandbox.store)
        if self.replicas:
            self.states = [old, sandbox.store.snapshot()]
        if self.drift:
            self.changes = Drift(self.seed, **self.drift)
        sandbox.before_list = self._before_list(sandbox, old)
        self._order_faults(sandbox)

    def _before_list(self, sandbox: Sandbox, old: Snapshot) -> BeforeList:
        rules, lists = sandbox.rules, 0

        def before_list(store: Store, seen: SeenRequest) -> None:
            nonlocal lists
            if lists == self.from_list and self.later:
                sandbox.rules = attrs.evolve(rules, **self.later)
            if lists == self.from_list and self.restored_later:
                store.restore(old)
            lists += 1
            if lists == self.from_list and self.empties:
                sandbox.order(Fault.EMPTY_LIST, times=self.empties)
            if self.changes is not None:
                self.changes(store, seen)

        return before_list

    def _order_faults(self, sandbox: Sandbox) -> None:
        if self.empties and self.from_list == 0:
            sandbox.order(Fault.EMPTY_LIST, times=self.empties)
        sandbox.order(Fault.EMPTY_LIST, share=self.share)
        sandbox.order(Fault.DUPLICATE_IDS, share=self.twice, path=f"{ROOT}/ip/payments$")
        sandbox.order(Fault.HTML_404, share=self.unseen_in_html, methods=("GET",), path=A_PAYMENT)
        replicas = random.Random(f"replicas {self.seed}")

        def instead(seen: SeenRequest) -> web.Response | None:
            if self.states:
                listed = is_list(seen.method, seen.path)
                sandbox.store.restore(replicas.choice(self.states) if listed else self.states[-1])
            return _out_of_scope(seen) if self.out_of_scope else None

        sandbox.answer_with(instead)

    def write(self, store: Store) -> None:
        """Make the changes before a walk or a sweep."""
        draw = random.Random(f"writes {self.seed} {store.clock}")
        for _ in range(self.writes):
            _write(store, draw)

    def stop_lying(self, sandbox: Sandbox) -> None:
        """Tell the truth from now on, without changes."""
        sandbox.clear_faults()
        for state in self.states:
            sandbox.store.restore(state)
        sandbox.answer_with(None)
        sandbox.before_list = None
        sandbox.rules = HONEST


HONEST: Final = Rules(quota=False)
_LAST_SECOND, _ONE_SECOND, _BACKDATED = _SHAPES = ("last second", "one second", "backdated")

_Lie = Callable[[Service, random.Random], Mapping[str, Any]]
"""Draws a lie: the fields of the service to set, and their values."""


def drawn(seed: int, *, most: int = 400) -> Service:
    """Draw a service: its store of up to `most` payments, its page size, and up to three lies."""
    draw = random.Random(f"lying {seed}")
    service = Service(seed=seed)
    rows = min(most, draw.choice((0, 1, 3, 8, 20, 20, 60, 60, 60, 120, 120, 250, 400)))
    shape = draw.choice(("", "", "", *_SHAPES))
    service.together = rows * 2 // 3 if shape == _LAST_SECOND else rows if shape == _ONE_SECOND else 0
    if shape == _LAST_SECOND and draw.random() < 0.2:
        rows, service.together = 320, 270
    service.backdated = rows // 4 if shape == _BACKDATED else 0
    service.payments = rows - service.together - service.backdated
    service.quiet = draw.choice((0, 60))
    service.page_size = draw.choice((250, 250, 250, 50, 20, 7))
    service.concurrency = draw.choice((1, 2, 8))
    service.lies["max_limit"] = draw.choice((250, 250, 50, 20, 10, 5))
    if rows > 120 and service.page < 10:
        service.page_size, service.lies["max_limit"] = 20, 20
    if shape:
        service.kinds.append(shape)
    names = draw.sample(list(_AWKWARD), draw.choice((0, 0, 1, 2)))
    names += draw.sample(_OF_THE_END if draw.random() < 0.3 else list(_LIES), draw.choice((0, 1, 1, 1, 2, 3)))
    for name in names:
        service.kinds.append(name)
        for field, value in (_AWKWARD | _LIES)[name](service, draw).items():
            held = getattr(service, field)
            setattr(service, field, _both(held, value) if isinstance(held, dict) else value)
    if "offset" in service.lies.get("ignores", ()):
        service.drift = {}  # a list that grows at the start with each request has no end
    if service.replicas:
        service.drift, service.restored_later = {}, False
        # A run of equals is counted, and what two databases hold between them counts to nothing.
        service.payments, service.together = rows - service.backdated, 0
    return service


def _both(rules: dict[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    ignores = {*rules.get("ignores", ()), *others.get("ignores", ())}
    return rules | dict(others) | ({"ignores": ignores} if ignores else {})


def _out_of_scope(seen: SeenRequest) -> web.Response | None:
    if seen.method != "GET" or re.fullmatch(A_PAYMENT, seen.path) is None:
        return None
    refused = Answer.error(404, "Payment not found")
    return web.Response(status=404, body=refused.body, content_type=refused.content_type)


def _write(store: Store, draw: random.Random) -> None:
    kind = draw.choice(("insert", "insert", "update", "delete"))
    payment_id = store.pick(draw)
    if kind == "insert" or payment_id is None:
        store.insert(created_at=draw.choice((None, store.clock)))
    elif kind == "update":
        store.update(payment_id, payerName=f"p{draw.random()}")
    else:
        store.delete(payment_id)


def _list_number(service: Service, draw: random.Random) -> int:
    return draw.randint(0, 3 + service.rows // max(1, service.page - 2))


def _rules(**choices: Sequence[Any]) -> _Lie:
    """Return the lie that sets each of these rules to one of its choices."""
    return lambda _, draw: {"lies": {name: draw.choice(values) for name, values in choices.items()}}


def _about(**choices: Sequence[Any]) -> _Lie:
    """Return the lie that sets each of these fields of the service to one of its choices."""
    return lambda _, draw: {name: draw.choice(values) for name, values in choices.items()}


def _later(lie: _Lie) -> _Lie:
    """Return the lie that these rules apply from some list on."""
    return lambda service, draw: {
        "later": lie(service, draw)["lies"],
        "from_list": _list_number(service, draw),
    }


def _near(name: str) -> _Lie:
    """Return the lie that sets this rule to a position in the list, often one at a boundary."""

    def lie(service: Service, draw: random.Random) -> Mapping[str, Any]:
        page, rows = service.page, service.rows
        known = (1, page - 1, page, page + 1, 2 * page, rows // 2, rows - page, rows - 1, rows, rows + 1)
        place = draw.choice((*known, *(draw.randint(0, rows + 2) for _ in known)))
        return {"lies": {name: max(0, place)}}

    return lie


def _empties(most: int) -> _Lie:
    """Return the lie that `most` answers in a row (1 to 3 for 3) are empty, from some list on."""
    return lambda service, draw: {
        "empties": draw.randint(1, 3) if most == 3 else most,
        "from_list": _list_number(service, draw),
    }


def _hidden(service: Service, draw: random.Random) -> Mapping[str, Any]:
    some = draw.choice((0.02, 0.3, 0.9))
    if draw.random() < 0.5:
        return {"lies": {"hidden": [one for one in range(1, service.rows + 40) if draw.random() < some]}}
    channel = str(draw.choice((1, 2, 3)))
    return {"lies": {"hidden": lambda row: row["channelId"] == channel}}


def _changing(_: Service, draw: random.Random) -> Mapping[str, Any]:
    kinds = {"insert": 1.0, "delete": draw.choice((0.0, 1.0, 3.0)), "update": 0.5}
    return {"drift": {"rate": draw.choice((0.1, 0.5, 1.5)), **kinds}}


def _lag(_: Service, draw: random.Random) -> Mapping[str, Any]:
    return {"lies": {"list_lag": uneven_lag(draw.randrange(1000))}, "writes": draw.choice((3, 30))}


_AWKWARD: Final[dict[str, _Lie]] = {
    "shuffled": _rules(equals=["shuffled"]),
    "ties in one order": _rules(equals=["one way"]),
    "changing": _changing,
    "short pages": _rules(short_pages=[0.1, 0.5]),
    "no Date": _rules(date_header=[False]),
    "another echo": _rules(echo=["asked", None]),
    "ids in strings": _rules(ids_as=["string"]),
    "refused limit": _rules(over_limit=["refuse"]),
    "another limit, later": _later(_rules(max_limit=[3, 30, 100])),
}
"""No lies, but they make a list harder to read."""

_LIES: Final[dict[str, _Lie]] = {
    "window": _near("paging_window"),
    "window, later": _later(_near("paging_window")),
    "window, refused": lambda service, draw: {
        "lies": _near("paging_window")(service, draw)["lies"] | {"beyond_window": draw.choice((400, 422))}
    },
    "total of the store": _rules(total_count=["store"]),
    "no total": _rules(total_count=["absent"]),
    "total of the page": _rules(total_count=["page"]),
    "total wanders": _rules(total_count=["wandering"]),
    "total capped": _near("total_cap"),
    "empties": _empties(3),
    "empties, for good": _empties(10**9),
    "share of empties": _about(share=[0.05, 0.2, 0.5]),
    "ignored filters": _rules(ignores=[FILTERS]),
    "ignored orderBy": _rules(ignores=[["orderBy"]], ignored_order=["ASC", "DESC"]),
    "ignored sortBy": _rules(ignores=[["sortBy"]]),
    "ignored offset": _rules(ignores=[["offset"]]),
    "lag": _lag,
    "lag before a long second": lambda service, draw: {
        **_lag(service, draw),
        "together": draw.choice((30, 120)),
    },
    "hidden": _hidden,
    "hidden, later": _later(_hidden),
    "shown": _near("shown"),
    "shown, later": _later(_near("shown")),
    "one spelling": _rules(
        channel_encoding=["repeat", "brackets", "comma"],
        other_channel_encodings=["nothing", "ignore", 400, 422],
        payment_channels=["digits", "digits", "null", "empty"],
    ),
    "GET in HTML": _about(unseen_in_html=[0.5, 1.0]),
    "GET out of scope": _about(out_of_scope=[True]),
    "restored": _about(restored=[True], writes=[3, 30]),
    "restored, later": lambda service, draw: {
        "restored_later": True,
        "writes": draw.choice((3, 30)),
        "from_list": _list_number(service, draw),
    },
    "replicas": _about(replicas=[True], writes=[3, 30]),
    "rows twice": _about(twice=[0.2, 1.0]),
    "blank pages": lambda _, draw: {
        "lies": {"short_pages": lambda limit: 0 if draw.random() < 0.2 else limit}
    },
}
"""Lies that contradict the store."""

_OF_THE_END: Final = (
    "window", "window, later", "window, refused", "no total", "total of the page", "total wanders",
    "total capped", "empties", "ignored orderBy", "ignored offset", "shown, later", "restored, later",
    "blank pages",
)  # fmt: skip
"""Lies about where a list ends: some of them are believed only in combination."""
