"""The ids of an export's payments, to find one that is there twice: eight bytes each."""

from __future__ import annotations

from array import array
from contextlib import suppress
from heapq import merge
from itertools import pairwise
from typing import Final

_RUN: Final = 1 << 16


class Ids:
    """Takes ids, and finds one that came twice. The number 70 and the text ``"70"`` are the same id."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._runs: list[array[int]] = []
        self._others: set[str] = set()
        self._twice: str | None = None

    def add(self, payment_id: object) -> None:
        """Take an id."""
        text = str(payment_id)
        with suppress(ValueError):
            number = int(text)
            if str(number) == text and -(2**63) <= number < 2**63:
                self._numbers.append(number)
                if len(self._numbers) == _RUN:
                    self._sort()
                return
        # No number that a payment has: few, if any.
        if text in self._others:
            self._twice = text
        self._others.add(text)

    def twice(self) -> str | None:
        """Give an id that came twice; None where none did."""
        self._sort()
        if self._twice is None:
            # Run by run, so that there is never an object for each id.
            for one, next_one in pairwise(merge(*self._runs)):
                if one == next_one:
                    return str(one)
        return self._twice

    def _sort(self) -> None:
        if self._numbers:
            self._runs.append(array("q", sorted(self._numbers)))
            self._numbers = []
