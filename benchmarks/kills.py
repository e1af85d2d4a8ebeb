"""Killed exports: processes are killed at random times, while the payments change.

Run with ``uv run python -m benchmarks.kills``. A real `b2b-payments export` reads a sandbox in another
process, and is killed (SIGKILL); the next one continues with ``--resume`` and is killed in turn, five to ten
times per export. The times are random, each within twice the fair share of the remaining work; the last two
of an export are aimed at its end, when files are moved into place. A kill before a process's first request
does not count. Databases belong to a user, with the user's own tables, views, indexes and triggers, none of
which may change. With ``--s3`` the exports go to S3 on loopback, and the next process must find there what
was committed. Each finished export must pass `verify`, and contain every lasting payment (one that existed
from the export's start to its end) once, none twice, and no row that the service never had. Exit code 1 if
one does not, or if too few kills landed where they count.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.kills_export import Account, killed
from benchmarks.kills_service import Size
from benchmarks.kills_state import Stage
from tests.support.s3_server import S3Server, variables

FORMATS = ("jsonl", "csv", "parquet", "sqlite", "duckdb")
RESUMABLE = 0.4
"""The share of kills that must leave something to resume, committed or being published: the others prove
little."""


def missed(account: Account, wanted: int | None) -> list[str]:
    """Return what is wrong: with the exports, or with where the kills landed.

    `wanted` is the required number of kills during publishing if only those count, otherwise None.
    """
    wrong = [*account.failed]
    if account.lost or account.twice or account.untrue:
        wrong.append(f"{account.lost} lost, {account.twice} twice, {account.untrue} untrue")
    publishing = account.stages[Stage.PUBLISHING]
    if wanted is None and account.stages[Stage.MIDWAY] + publishing < RESUMABLE * account.kills:
        wrong.append(f"fewer than {RESUMABLE:.0%} of the kills left something to resume")
    if publishing < (wanted or 1):
        wrong.append(f"{publishing} kills landed while the files were being published")
    return [f"{account.format}: {what}" for what in wrong]


def table(accounts: Sequence[Account]) -> str:
    """Return the figures of all formats. A row is untrue if the service never had it."""
    head = ("format", "kills", *Stage, "exports", "lasting rows checked", "lost", "twice", "untrue")
    lines = [f"| {' | '.join((*head, 'verify failed'))} |", "| --- " * (len(head) + 1) + "|"]
    for one in accounts:
        figures = (one.kills, *(one.stages[stage] for stage in Stage), one.exports, one.lasting)
        wrong = (one.lost, one.twice, one.untrue, len(one.failed))
        lines.append(f"| {one.format} | {' | '.join(f'{figure:,}' for figure in (*figures, *wrong))} |")
    return "\n".join(lines)


def main() -> int:
    """Run all kills and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200, help="for each format [200]")
    parser.add_argument(
        "--format", action="append", choices=FORMATS, help="one of them [all]; may be repeated"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the kills and the changes [1]")
    parser.add_argument(
        "--projections", action="store_true", help="aim all kills at publishing; only those count"
    )
    parser.add_argument("--s3", action="store_true", help="export to S3, served by moto on this machine")
    parser.add_argument("--at-once", type=int, default=2, help="concurrent formats [2]")
    options = parser.parse_args()
    begun = time.perf_counter()

    def say(line: str) -> None:
        print(f"{time.perf_counter() - begun:6.0f} s  {line}", file=sys.stderr, flush=True)

    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    with ExitStack() as stack:
        bucket = ""
        if options.s3:
            server = stack.enter_context(S3Server())
            os.environ.update(variables(server.port))
            bucket = f"s3://{server.new_bucket()}"
        pool = stack.enter_context(ThreadPoolExecutor(options.at_once))
        fire = partial(
            killed,
            kills=options.kills,
            seed=options.seed,
            folder=folder,
            size=Size(),
            say=say,
            projections=options.projections,
            bucket=bucket,
        )
        accounts = list(pool.map(fire, options.format or FORMATS))
    print(table(accounts))
    print(f"\nPython {sys.version.split()[0]}, seed {options.seed}; {time.perf_counter() - begun:.0f} s.")
    wanted = options.kills if options.projections else None
    wrong = [what for account in accounts for what in missed(account, wanted)]
    if wrong:
        print("\n".join(["", *wrong, f"The exports are kept in {folder}."]))
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
