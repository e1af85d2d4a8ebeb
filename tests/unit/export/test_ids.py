"""Finding a duplicate id."""

from __future__ import annotations

import sys

import pytest

from b2b_payments.export._verification import DuplicateIds


def _duplicate(ids: list[object]) -> str | None:
    duplicates = DuplicateIds()
    for payment_id in ids:
        duplicates.add(payment_id)
    return duplicates.duplicate()


@pytest.mark.parametrize(
    ("ids", "duplicate"),
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
def test_duplicate(ids: list[object], duplicate: str | None) -> None:
    """A duplicate id is found in any form; different ids are not duplicates, however similar."""
    assert _duplicate(ids) == duplicate


@pytest.mark.slow
def test_many_ids() -> None:
    """The only duplicate among many ids is found, in any order."""
    ids: list[object] = [(number * 7919) % 200_003 for number in range(200_003)]
    assert _duplicate(ids) is None
    assert _duplicate([*ids, 77]) == "77"


@pytest.mark.slow
def test_memory_of_a_million_ids() -> None:
    """A million ids take little more than eight megabytes."""
    ids = DuplicateIds()
    for number in range(1_000_000, 2_000_000):
        ids.add(number)
    assert len(ids._numbers) < 1 << 16
    size = sum(map(sys.getsizeof, (*ids._runs, ids._numbers)))
    assert 8_000_000 <= size + 8 * len(ids._numbers) < 9_000_000
    assert ids.duplicate() is None
