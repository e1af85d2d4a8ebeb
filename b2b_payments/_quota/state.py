"""The serialized form of a store's window, which Python and Lua both read."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from b2b_payments._quota.quota import Quota
from b2b_payments._quota.window import Claim, Priority, Window, believable_quota

Terms = tuple[int, float, float, float, int]
"""A quota's fields: requests, per, share, margin, reserve."""
Sharer = tuple[int, float, list[Terms]]
"""A process that shares the window: its number, when it last used the window, and its quotas."""

REMEMBERED = 120.0
"""Seconds after its last use of the window for which a process counts as sharing it."""


class State(msgspec.Struct, array_like=True):
    """A window, and the processes that share it."""

    times: list[float]
    pages: list[float]
    allocated: list[float]
    closed_until: float
    forecast: tuple[float, float, float, float, bool]
    in_flight: list[tuple[int, float]]
    claims: list[tuple[int, int, float, float]]
    sharers: list[Sharer]


def pack(window: Window, sharers: Iterable[Sharer]) -> State:
    """Serialize a window."""
    grants, forecast = window.grants, window.forecast
    return State(
        list(grants.times),
        list(grants.pages),
        list(grants.allocated or ()),
        window.closed_until,
        (forecast.trust, forecast.remaining, forecast.stated_at, forecast.resets_at, forecast.slides),
        list(window.in_flight.items()),
        [(member, *claim) for member, claim in window.claims.items()],
        list(sharers),
    )


def unpack(state: State, quotas: Iterable[Quota]) -> Window:
    """Restore a window, under these quotas and those of all processes that share it."""
    window = Window(*quotas, *(_quota_from(terms) for *_, shared in state.sharers for terms in shared))
    grants, forecast = window.grants, window.forecast
    grants.times = deque(state.times)
    grants.pages = deque(state.pages)
    if state.allocated:
        requests, per = state.allocated
        if (allocated := believable_quota((int(requests), per))) is not None:
            grants.allocate(*allocated)
    window.closed_until = state.closed_until
    forecast.trust, forecast.remaining, forecast.stated_at, forecast.resets_at, forecast.slides = (
        state.forecast
    )
    window.in_flight = OrderedDict(state.in_flight)
    window.claims = {who: Claim(Priority(rank), since, seen) for who, rank, since, seen in state.claims}
    return window


def terms_of(quotas: Iterable[Quota]) -> list[Terms]:
    """Return quotas in the form in which other processes read them."""
    return [(quota.requests, quota.per, quota.share, quota.margin, quota.reserve) for quota in quotas]


@lru_cache(maxsize=64)
def _quota_from(terms: Terms) -> Quota:
    requests, per, share, margin, reserve = terms
    return Quota(requests, per, share=share, margin=margin, reserve=reserve)
