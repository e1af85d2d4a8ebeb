"""Creation times of payments: evenly over five years, and in ways that break a guess that they are even."""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate

FIRST = 1_617_235_200
"""2021-04-01 UTC, in epoch seconds."""
SPAN = 5 * 365 * 86_400
_HOUR, _DAY = 3_600, 86_400
_MONTH = SPAN // 60


def _between(draw: random.Random, start: float, seconds: float, count: int) -> Iterator[int]:
    return (int(start + seconds * draw.random()) for _ in range(count))


def _evenly(draw: random.Random, count: int) -> Iterator[int]:
    return _between(draw, FIRST, SPAN, count)


def _outages(draw: random.Random, count: int) -> Iterator[int]:
    """Weeks, months and a year without a payment."""
    starts = sorted(FIRST + SPAN * draw.random() for _ in range(8))
    lengths = (_MONTH * draw.choice((0.25, 1, 3, 12)) for _ in starts)
    passed = [0, *accumulate(map(int, lengths))]
    return (time + passed[bisect_left(starts, time)] for time in _evenly(draw, count))


def _imported(draw: random.Random, count: int, *, share: float, imports: int = 1) -> Iterator[int]:
    """A part evenly; the rest in imports, each within an hour."""
    each = int(count * share / imports)
    yield from _evenly(draw, count - each * imports)
    for _ in range(imports):
        yield from _between(draw, FIRST + SPAN * draw.random(), _HOUR, each)


def _years_of_nothing(draw: random.Random, count: int) -> Iterator[int]:
    yield from (FIRST + day * _DAY for day in range(10))
    yield from _between(draw, FIRST + SPAN, 30 * _DAY, count - 10)


def _in_one_second(_draw: random.Random, count: int) -> Iterator[int]:
    return iter([FIRST] * count)


def _monthly(draw: random.Random, count: int) -> Iterator[int]:
    """All payments of a month in one second."""
    return (FIRST + _MONTH * draw.randrange(60) for _ in range(count))


def _growing(draw: random.Random, count: int) -> Iterator[int]:
    """Ten times as many a year, each year."""
    most = 10**5
    return (int(FIRST + SPAN * math.log(1 + draw.random() * (most - 1), most)) for _ in range(count))


def _in_crowds(draw: random.Random, count: int) -> Iterator[int]:
    """Crowds of crowds, at every scale."""
    crowds = [sum(2 / 3**n for n in range(1, 9) if place >> n & 1) for place in range(512)]
    both = zip(draw.choices(crowds, k=count), draw.choices(crowds, k=count), strict=True)
    return (int(FIRST + SPAN * (one + other / 3**8)) for one, other in both)


TIMES: dict[str, Callable[[random.Random, int], Iterator[int]]] = {
    "evenly": _evenly,
    "outages": _outages,
    "a fifth imported within an hour": partial(_imported, share=0.2),
    "four imports": partial(_imported, share=0.8, imports=4),
    "nine in ten within an hour": partial(_imported, share=0.9),
    "years of nothing": _years_of_nothing,
    "all in one second": _in_one_second,
    "a second a month": _monthly,
    "ten times as many each year": _growing,
    "crowds of crowds": _in_crowds,
}


def times(name: str, draw: random.Random, count: int) -> list[int]:
    """Draw `count` creation times in epoch seconds, oldest first."""
    return sorted(TIMES[name](draw, count))


def moment(draw: random.Random, created: Sequence[int]) -> int:
    """Draw a time: any, one near a payment, or one near a gap or a crowd."""
    kind = draw.random()
    if kind < 0.4:
        return round(draw.uniform(created[0] - 9, created[-1] + 9))
    places = [draw.randrange(1, len(created)) for _ in range(1 if kind < 0.6 else 200)]
    gap = max(places, key=lambda one: created[one] - created[one - 1])
    crowd = min(
        places, key=lambda one: created[min(one + 500, len(created) - 1)] - created[max(0, one - 500)]
    )
    return created[draw.choice((gap, crowd))] + draw.choice((-_HOUR, -1, 0, 1, _HOUR))
