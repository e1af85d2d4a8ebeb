"""What came of the exports of many stores."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from b2b_payments._printable import counted, frozen
from b2b_payments.export._pace import PaceReading


class StoreState(StrEnum):
    """How the export of a store stands."""

    NOT_BEGUN = "not begun"
    RUNNING = "running"
    COMPLETE = "complete"
    ALREADY_COMPLETE = "complete already"
    """The run that is resumed had finished it."""
    NOT_COMPLETE = "not complete"
    """That its file holds all payments is not proven."""
    FAILED = "failed"
    STOPPED = "stopped"


@frozen
class StoreReport:
    """How the export of one store stands.

    `path` is its file; `instead` is where the export was put if that is elsewhere. `rows` are the payments
    that are kept, `requests` and `seconds` this run's. `resumable` says whether something is kept to go on
    with, `ending` how the walk ended, `error` what the store failed with. `pace` is how it went when it was
    last looked at.
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
        """Whether its file is there and complete."""
        return self.state in {StoreState.COMPLETE, StoreState.ALREADY_COMPLETE}

    def to_dict(self) -> Mapping[str, Any]:
        """Return it as plain JSON."""
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
    """What came of the exports of many stores, in the order in which they were given."""

    stores: tuple[StoreReport, ...]

    @property
    def complete(self) -> bool:
        """Whether all of them are."""
        return all(one.complete for one in self.stores)

    def __str__(self) -> str:
        complete = sum(one.complete for one in self.stores)
        return f"{complete:,} of {counted(len(self.stores), 'store')} complete"

    def to_dict(self) -> Mapping[str, Any]:
        """Return it as plain JSON."""
        return {"complete": self.complete, "stores": [one.to_dict() for one in self.stores]}
