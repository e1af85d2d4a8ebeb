"""The reports on the exports of many stores."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from b2b_payments._printable import counted, frozen
from b2b_payments.export._pace import PaceReading


class StoreState(StrEnum):
    """The state of a store's export."""

    NOT_BEGUN = "not begun"
    RUNNING = "running"
    COMPLETE = "complete"
    ALREADY_COMPLETE = "complete already"
    """Finished before by the run that is being resumed."""
    NOT_COMPLETE = "not complete"
    """The walk ended, but it is not proven that the file holds all payments."""
    FAILED = "failed"
    STOPPED = "stopped"


@frozen
class StoreReport:
    """How the export of one store stands.

    `path` is its file; `instead` is where the export was written if not to `path`. `rows` is the number of
    payments kept; `requests` and `seconds` are those of this run. `resumable` says whether something was kept
    that can be resumed, `ending` how the walk ended, `error` why the store failed. `pace` is the latest
    reading of its speed.
    """

    name: str
    path: str
    state: StoreState = StoreState.NOT_BEGUN
    rows: int = 0
    requests: int = 0
    seconds: float = 0.0
    resumable: bool = False
    ending: str = ""
    instead: str | None = None
    error: Exception | None = None
    pace: PaceReading = PaceReading()

    @property
    def complete(self) -> bool:
        """Whether its file exists and is complete."""
        return self.state in {StoreState.COMPLETE, StoreState.ALREADY_COMPLETE}

    def to_dict(self) -> Mapping[str, Any]:
        """Return the report as plain JSON."""
        return {
            "name": self.name,
            "state": str(self.state),
            "complete": self.complete,
            "file": self.instead or self.path,
            "payments": self.rows,
            "requests": self.requests,
            "seconds": round(self.seconds, 3),
            "resumable": self.resumable,
            "ending": self.ending or None,
            "error": None if self.error is None else str(self.error),
        }


@frozen
class StoresReport:
    """The outcome of the exports of many stores, in the order of the arguments."""

    stores: tuple[StoreReport, ...]

    @property
    def complete(self) -> bool:
        """Whether all stores are complete."""
        return all(one.complete for one in self.stores)

    def __str__(self) -> str:
        complete = sum(one.complete for one in self.stores)
        return f"{complete:,} of {counted(len(self.stores), 'store')} complete"

    def to_dict(self) -> Mapping[str, Any]:
        """Return the report as plain JSON."""
        return {"complete": self.complete, "stores": [one.to_dict() for one in self.stores]}
