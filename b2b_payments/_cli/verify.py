"""`verify`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from b2b_payments._cli.command import Command, CommandError, command_errors, print_json
from b2b_payments._cli.values import not_blank
from b2b_payments._errors import B2BPaymentsError
from b2b_payments._printable import counted

_WORTH_A_PROCESS = 64 * 2**20
"""Bytes per process: checking them takes about a second, as long as a process takes to start."""


@click.command(cls=Command)
@click.argument("files", metavar="FILE...", type=not_blank, nargs=-1, required=True)
@click.option("--report", type=click.Choice(["json"]), help="Print the result as JSON.")
def verify(files: tuple[str, ...], report: str | None) -> None:
    """Check exported files against their manifests. A folder stands for all exports in it.

    Checks the hashes of the bytes (in a database: of the rows), the number of payments, that no payment is in
    it twice, and the totals per currency and processing status. Exit code 0 means that all are as exported. A
    copy made by sync has no manifest: only its consistency is checked, and sync --sweep compares it with the
    store.
    """
    from b2b_payments._cli.waits import object_store_waits_shown

    with object_store_waits_shown():
        _verify(files, report)


def _verify(files: tuple[str, ...], report: str | None) -> None:
    with command_errors():
        paths = list(_files(files))
    from b2b_payments._reporting.wording import money

    results: list[dict[str, Any]] = []
    for one in _checked(paths):
        results.append(one)
        if one["error"] is None and report is None:
            kind = "a copy" if one["copy"] else "as exported"
            state = "complete" if one["complete"] else "not known to be complete"
            totals = ", ".join(f"{money(Decimal(total))} {name}" for name, total in one["totals"].items())
            payments = counted(one["payments"], "payment")
            click.echo(f"{one['file']}: {kind}, {state}: {payments}, {totals or 'nothing'}.")
        elif len(paths) > 1 and report is None:
            click.echo(one["error"], err=True)
    failed = [one["error"] for one in results if one["error"] is not None]
    if report is not None:
        print_json({"as_exported": not failed, "files": results})
    if failed:
        many = f"{len(failed)} of {len(paths)} files are not as exported, or cannot be read."
        raise CommandError(failed[0] if len(paths) == 1 else many)


def _files(paths: Iterable[str]) -> Iterator[str]:
    from b2b_payments.export._verification import exports_in, is_folder

    for path in paths:
        if not is_folder(path):
            yield path
            continue
        exports = exports_in(path)
        if not exports:
            raise CommandError(f"{path} contains no export: there is no manifest in it.")
        yield from exports


def _checked(paths: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the result of each file, checked in several processes if that is worth it."""
    size = sum(os.path.getsize(path) for path in paths if os.path.isfile(path))
    processes = min(len(paths), os.cpu_count() or 1, size // _WORTH_A_PROCESS)
    if processes < 2:
        yield from map(_check, paths)
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_check, paths)


def _check(path: str) -> dict[str, Any]:
    from b2b_payments.export import verify
    from b2b_payments.export._bucket import is_url
    from b2b_payments.export._file import path_of
    from b2b_payments.export._manifest import manifest_bytes
    from b2b_payments.sync._verification import check_copy

    copy = None
    try:
        if not is_url(path) and manifest_bytes(path) is None:
            copy = check_copy(Path(path_of(path)))
        if copy is not None:
            state, sums = copy
            complete = state.changes is not None
        else:
            account = verify(path).account
            sums, complete = account.sums, account.complete
    except B2BPaymentsError as error:
        result: dict[str, Any] = {"complete": False, "payments": None, "totals": {}, "error": str(error)}
    else:
        totals = sums.whole.pack()["totals"]
        result = {"complete": complete, "payments": sums.whole.rows, "totals": totals, "error": None}
    return {"file": path, "copy": copy is not None, **result}
