"""The fault suite: every fault of the service, on a third of all requests, against reads and writes.

Run with ``uv run python -m benchmarks.faults``. Client and sandbox communicate over real sockets, with the
library's own quota, retries and timeout, on an event loop whose clock skips waits. Exit code 1 if a payment
was lost, read twice or created twice, or if a write was reported wrongly.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import attrs

from benchmarks.faults_account import Reads, Writes, creates, other_writes, reads, repeated_creates
from benchmarks.faults_service import TROUBLES, Trouble
from tests.support.virtual_time import run

_HEAD = """\
| fault, on a third of all requests | reads: rows | lost | twice | requests | seconds \
| creates: done | failed | unknown | made twice | false success | false failure \
| other writes: done | failed | unknown | false |"""

_REPEATED_HEAD = """\
| fault, on a third of all requests | creates with unless_exists: done | failed | unknown \
| made twice | false success | false failure |"""


@attrs.frozen
class Row:
    """One fault's row of the table."""

    fault: str
    reads: Reads
    creates: Writes
    others: Writes

    @property
    def right(self) -> bool:
        """Whether nothing was lost, duplicated or reported wrongly."""
        return not (self.reads.lost or self.reads.doubled or self.creates.wrong or self.others.wrong)

    def __str__(self) -> str:
        read, made, other = self.reads, self.creates, self.others
        cells = [
            *(self.fault, read.rows, read.lost, read.doubled, read.requests, f"{read.seconds:.0f}"),
            *(made.done, made.failed, made.unknown, made.twice, made.false_success, made.false_failure),
            *(other.done, other.failed, other.unknown, other.wrong),
        ]
        texts = [f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells]
        return f"| {' | '.join(texts)} |"


@attrs.frozen
class Repeated:
    """One fault's row of the table of creates with `unless_exists`."""

    fault: str
    creates: Writes

    @property
    def right(self) -> bool:
        """Whether nothing was created twice or reported wrongly."""
        return not self.creates.wrong

    def __str__(self) -> str:
        made = self.creates
        cells = [made.done, made.failed, made.unknown, made.twice, made.false_success, made.false_failure]
        return f"| {self.fault} | {' | '.join(f'{cell:,}' for cell in cells)} |"


@attrs.frozen
class Size:
    """The work under each fault: payments read, creates, other writes of each kind, repeated creates."""

    payments: int
    creates: int
    others: int
    repeated: int


FULL = Size(2_000, 1_000, 200, 500)
QUICK = Size(300, 40, 8, 12)


def measure(trouble: Trouble, size: Size) -> Row:
    """Run everything under one fault."""
    return Row(
        trouble.name,
        run(reads(trouble, size.payments)),
        run(creates(trouble, size.creates)),
        run(other_writes(trouble, size.others)),
    )


def repeat(trouble: Trouble, size: Size) -> Repeated:
    """Create payments with `unless_exists` repeatedly, under one fault."""
    return Repeated(trouble.name, run(repeated_creates(trouble, size.repeated)))


def main() -> int:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fault", metavar="NAME", help="only faults whose names contain this")
    parser.add_argument("--quick", action="store_true", help="fewer payments and writes")
    parser.add_argument(
        "--unless-exists",
        action="store_true",
        help="only repeated creates with unless_exists",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    chosen = [one for one in TROUBLES if (options.fault or "").lower() in one.name.lower()]
    if not chosen:
        parser.error(
            f"no fault is named {options.fault!r}; choose from: {', '.join(t.name for t in TROUBLES)}"
        )
    begun = time.perf_counter()
    head = _REPEATED_HEAD if options.unless_exists else _HEAD
    print(head)
    print("|" + " --- |" * (head.count("|") - 1))
    size = QUICK if options.quick else FULL
    rows: list[Row | Repeated] = []
    for trouble in chosen:
        rows.append(repeat(trouble, size) if options.unless_exists else measure(trouble, size))
        print(rows[-1], flush=True)
    wrong = sum(not row.right for row in rows)
    took = time.perf_counter() - begun
    print(f"\n{len(rows)} faults in {took:.0f} s of real time; {wrong} with a wrong figure.")
    if options.json is not None:
        options.json.write_text(json.dumps([attrs.asdict(row) for row in rows], indent=2) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
