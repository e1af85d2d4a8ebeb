"""Tables of figures, and their bars."""

from __future__ import annotations

from collections.abc import Sequence

import attrs


@attrs.frozen
class Bar:
    """A promise, its figure, and whether it is kept. None as `figure` means that it was not measured."""

    promise: str
    figure: float | None
    most: float
    unit: str = "×"

    @property
    def kept(self) -> bool | None:
        """Whether the figure is within the bar, or None if it was not measured."""
        return None if self.figure is None else self.figure <= self.most

    def __str__(self) -> str:
        verdict = {True: "kept", False: "MISSED", None: "not measured"}[self.kept]
        figure = "–" if self.figure is None else f"{self.figure:.2f} {self.unit}"
        return f"| {self.promise} | ≤ {self.most:g} {self.unit} | {figure} | {verdict} |"


@attrs.define
class Table:
    """One piece of work: a title, a row per contender, bars, and contenders that failed."""

    title: str
    head: Sequence[str]
    rows: list[list[str]] = attrs.field(factory=list)
    bars: list[Bar] = attrs.field(factory=list)
    failures: dict[str, str] = attrs.field(factory=dict)
    chart: dict[str, float] = attrs.field(factory=dict)
    chart_unit: str = ""

    def __str__(self) -> str:
        lines = [f"\n### {self.title}\n", f"| {' | '.join(self.head)} |", "| --- " * len(self.head) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        lines += [f"\nNot measured: {name}: {why}." for name, why in self.failures.items()]
        return "\n".join(lines)


def bars_text(bars: Sequence[Bar]) -> str:
    """Return the table of all bars."""
    return "\n".join(
        ["\n### Bars\n", "| promise | bar | measured | |", "| --- | --- | --- | --- |", *map(str, bars)]
    )
