"""Finding an id that came twice."""

from __future__ import annotations

import sys

import pytest

from b2b_payments.export._verification import DuplicateIds


def _twice(ids: list[object]) -> str | None:
    taken = DuplicateIds()
    for payment_id in ids:
        taken.add(payment_id)
    return taken.duplicate()


@pytest.mark.parametrize(
    ("ids", "twice"),
    [
        ([], None),
        ([3, 1, 2], None),
        ([3, 1, 3], "3"),
        ([7, "7"], "7"),
        (["7", "07", "+7", "٧", " 7", "7.0"], None),
        ([2**63, 5, str(2**63)], str(2**63)),
        ([-(2**63), 2**63 - 1, 2**63 - 1], str(2**63 - 1)),
        (["x", "y", None, True], None),
        (["x", 1, "x"], "x"),
        (["9" * 5000, 1], None),
    ],
)
def test_twice(ids: list[object], twice: str | None) -> None:
    """An id that came twice is named, whatever it looks like; different ones are none, however alike."""
    assert _twice(ids) == twice


@pytest.mark.slow
def test_far_apart() -> None:
    """Among many, in any order, the only one that came twice is found."""
    ids: list[object] = [(number * 7919) % 200_003 for number in range(200_003)]
    assert _twice(ids) is None
    assert _twice([*ids, 77]) == "77"


@pytest.mark.slow
def test_a_million() -> None:
    """A million ids are kept in little more than eight megabytes."""
    ids = DuplicateIds()
    for number in range(1_000_000, 2_000_000):
        ids.add(number)
    assert len(ids._numbers) < 1 << 16
    kept = sum(map(sys.getsizeof, (*ids._runs, ids._numbers)))
    assert 8_000_000 <= kept + 8 * len(ids._numbers) < 9_000_000
    assert ids.duplicate() is None
