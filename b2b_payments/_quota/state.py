"""A store's window as processes pass it on: one row of numbers, which Python and Lua both read."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from b2b_payments._quota.quota import Quota
from b2b_payments._quota.window import Claim, Priority, Window

Terms = tuple[int, float, float, float, int]
"""A quota: requests, per, share, margin, reserve."""
Sharer = tuple[int, float, list[Terms]]
"""A process that shares: its number, when it was here last, and its quotas."""

REMEMBERED = 120.0
"""Seconds for which a process that asks no more counts among those that share."""


class State(msgspec.Struct, array_like=True):
    """A window, and who shares it."""

    moments: list[float]
    pages: list[float]
    allocated: list[float]
    closed_until: float
    forecast: tuple[float, float, float, float, bool]
    in_flight: list[tuple[int, float]]
    claims: list[tuple[int, int, float, float]]
    sharers: list[Sharer]


def packed(window: Window, sharers: Iterable[Sharer]) -> State:
    """Return a window's state."""
    grants, forecast = window.grants, window.forecast
    return State(
        list(grants.moments),
        list(grants.pages),
        list(grants.allocated or ()),
        window.closed_until,
        (forecast.trust, forecast.remaining, forecast.stated_at, forecast.resets_at, forecast.slides),
        list(window.in_flight.items()),
        [(who, *claim) for who, claim in window.claims.items()],
        list(sharers),
    )


def unpacked(state: State, quotas: Iterable[Quota]) -> Window:
    """Return the window of a state, under these quotas and those of all who share it."""
    window = Window(*quotas, *(_quota(terms) for *_, shared in state.sharers for terms in shared))
    grants, forecast = window.grants, window.forecast
    grants.moments = deque(state.moments)
    grants.pages = deque(state.pages)
    if state.allocated:
        requests, per = state.allocated
        grants.allocate(int(requests), per)
    window.closed_until = state.closed_until
    forecast.trust, forecast.remaining, forecast.stated_at, forecast.resets_at, forecast.slides = (
        state.forecast
    )
    window.in_flight = OrderedDict(state.in_flight)
    window.claims = {who: Claim(Priority(first), came, seen) for who, first, came, seen in state.claims}
    return window


def terms_of(quotas: Iterable[Quota]) -> list[Terms]:
    """Return quotas as others read them."""
    return [(one.requests, one.per, one.share, one.margin, one.reserve) for one in quotas]


@lru_cache(maxsize=64)
def _quota(terms: Terms) -> Quota:
    requests, per, share, margin, reserve = terms
    return Quota(requests, per, share=share, margin=margin, reserve=reserve)
