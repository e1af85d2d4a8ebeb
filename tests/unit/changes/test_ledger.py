"""The state of a feed, and its checkpoints."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from b2b_payments import ConfigurationError
from b2b_payments._changes.ledger import Ledger
from b2b_payments._changes.version import Stamp
from b2b_payments._models.moment import microseconds_of

OVERLAP = 1800 * 1_000_000
NOW = microseconds_of(datetime(2026, 11, 28, 20, tzinfo=UTC))


def stamp(payment_id: int, seconds_ago: float) -> Stamp:
    """Return the stamp of a version that was written `seconds_ago`."""
    return Stamp(payment_id, NOW - round(seconds_ago * 1_000_000), f"digest{payment_id % 100:02}")


def ledger_at(*ages: float) -> Ledger:
    """Return a ledger whose watermark is now, with versions of these ages."""
    ledger = Ledger("a store", OVERLAP, NOW)
    for number, age in enumerate(ages, 1):
        ledger.add(stamp(number, age))
    return ledger


def test_a_checkpoint_remembers_what_was_yielded() -> None:
    """A ledger made from a checkpoint knows the versions within the overlap, to fractions of seconds."""
    ledger = ledger_at(0, 0.25, 1799, 1800, 1801, -86_400)
    packed = json.loads(json.dumps(ledger.place.checkpoint()))
    again = Ledger.since("a store", OVERLAP, packed)
    assert again.bound == NOW - OVERLAP
    known = [
        stamp(number, age) in again for number, age in enumerate([0, 0.25, 1799, 1800, 1801, -86_400], 1)
    ]
    assert known == [True, True, True, True, False, True]
    assert again.place.checkpoint() == packed


def test_a_checkpoint_is_small() -> None:
    """A change takes less than 30 bytes, and versions older than the overlap take none."""
    sizes = []
    for count in (100, 200):
        ledger = ledger_at(*[float(age) for age in range(count)], *[5_000.0] * 50)
        sizes.append(len(json.dumps(ledger.place.checkpoint(), separators=(",", ":"))))
    assert (sizes[1] - sizes[0]) / 100 < 30


def test_a_position_does_not_change() -> None:
    """A checkpoint created late is that of its change, although the ledger has moved on and forgotten."""
    ledger = Ledger("a store", OVERLAP, NOW - OVERLAP)
    ledger.add(stamp(1, 1_000))
    place = ledger.place
    before = place.checkpoint()
    for number in range(3_000):
        ledger.add(stamp(number + 2, 900))
        ledger.advance(NOW + number * 1_000_000)
    assert stamp(1, 1_000) not in ledger
    assert place.checkpoint() == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"store": "another"}, "for another store"),
        ({"store": ["another"] * 1_000}, r"for another store .{,100} not 'a store'\)"),
        ({"feed": "walk"}, "not a checkpoint of changes"),
        ({"version": 99}, "not a checkpoint of changes"),
        ({"given": [[1, 2]]}, "damaged"),
        ({"given": [["1", 2, "x"]]}, "damaged"),
        ({"given": [[1, None, "x"]]}, "damaged"),
        ({"watermark": "yesterday"}, "damaged"),
        ({"watermark": 5}, "damaged"),
        ({"watermark": "2026-11-28T20:00:00"}, "damaged"),
        ({"watermark": "0001-01-01T00:00:00+00:00"}, "damaged"),
        ({"watermark": "0001-01-01T00:00:00+23:00"}, "damaged"),
        ({"floor": "9999-12-31T23:59:59-23:00"}, "damaged"),
    ],
)
def test_invalid_checkpoints(changed: dict[str, Any], message: str) -> None:
    """A damaged checkpoint, or one of another store, kind or version, is refused with a message."""
    packed = ledger_at(1, 2).place.checkpoint() | changed
    with pytest.raises(ConfigurationError, match=message):
        Ledger.since("a store", OVERLAP, packed)


def test_values_of_another_type() -> None:
    """A value of another type is refused."""
    with pytest.raises(ConfigurationError, match="not a checkpoint"):
        Ledger.since("a store", OVERLAP, "2026-11-28")


def test_before_the_first_answer() -> None:
    """A checkpoint from before the first answer starts now, as its feed did."""
    packed = Ledger.since("a store", OVERLAP, None).place.checkpoint()
    assert Ledger.since("a store", OVERLAP, packed).watermark is None


def test_nothing_before_the_floor() -> None:
    """A feed that starts at a datetime never reads back further, however long the overlap is."""
    ledger = Ledger.since("a store", OVERLAP, datetime(2026, 11, 28, 20, tzinfo=UTC))
    assert ledger.bound == NOW
    ledger.advance(NOW + 10 * OVERLAP)
    assert ledger.bound == NOW + 9 * OVERLAP
