"""What `export` does where --stores is given."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import click

from b2b_payments._cli.command import CommandError, StoppedError, run
from b2b_payments._cli.connection import Connection
from b2b_payments._cli.filters import Asked
from b2b_payments._cli.stores.exports import Exports, table
from b2b_payments._cli.stores.file import Store, read_stores
from b2b_payments._cli.stores.places import Places, places_of
from b2b_payments._cli.stores.run import Run
from b2b_payments._printable import counted


def export_stores(
    connection: Connection,
    asked: Asked,
    path: str,
    output: str,
    format_: str | None,
    *,
    only: Sequence[str],
    at_once: int,
    resume: bool,
) -> None:
    """Export the stores of a file, and end with a table of what came of each.

    A run that ends by itself is over, whatever came of its stores. One that was interrupted leaves a note, by
    which `resume` leaves alone what it had finished. With `only`, there is no run to speak of.
    """
    _refuse_ids(path, asked)
    places = places_of(output, format_)
    begun: list[Exports] = []
    ended = False

    async def work() -> None:
        nonlocal ended
        stores = _chosen(path, read_stores(path, connection), places, only)
        places.make_folders(stores)
        exports = Exports(stores, places, asked, at_once=at_once, resume=resume)
        if only:
            begun.append(exports)
            await exports.run()
        else:
            with Run(path, places, stores, resume=resume) as noted:
                exports.leave_alone(noted)
                begun.append(exports)
                try:
                    await exports.run()
                finally:
                    # Where nothing is finished, there is nothing to be left alone by whoever goes on.
                    if len(exports.complete) in {0, len(stores)}:
                        noted.end()
                noted.end()
        ended = True

    try:
        run(work)
    except CommandError as failure:
        for exports in begun:
            click.echo(table(exports.standings), err=True)
            if isinstance(failure, StoppedError):
                ended = ended or len(exports.complete) == len(exports.standings)
                failure.left = f": {_count(exports)}. {_go_on(exports)}"
        if not (ended and isinstance(failure, StoppedError)):
            raise
    else:
        click.echo(table(begun[0].standings), err=True)
    _conclude(begun[0])


def _conclude(exports: Exports) -> None:
    """Say how many stores are complete. Raises CommandError where not all are."""
    if exports.unexpected:
        raise exports.unexpected[0]
    missing = [f"--only {shlex.quote(one.name)}" for one in exports.standings if not one.complete]
    if not missing:
        click.echo(f"{_count(exports)}.", err=True)
        return
    alone = "" if len(missing) == len(exports.standings) else f" {' '.join(missing)}"
    raise CommandError(
        f"{_count(exports)}. To export what is missing, give the same command --resume{alone}."
    )


def _refuse_ids(path: str, asked: Asked) -> None:
    if asked.query.channel_ids is not None:
        raise click.UsageError(
            "A channel's id is of one store: leave --channel out, and write channels = [1, 2] under the "
            f"store in {path}."
        )
    if asked.query.invoice_id is not None:
        raise click.UsageError("An invoice's id is of one store: leave --invoice out.")


def _chosen(path: str, stores: list[Store], places: Places, only: Sequence[str]) -> list[Store]:
    """Give the stores to export. Raises CommandError for unknown names, and for a file in common."""
    places.refuse_one_file(path, stores)
    known = [store.name for store in stores]
    if unknown := [name for name in only if name not in known]:
        raise CommandError(f"{path} has no store {', '.join(unknown)}; it has {', '.join(known)}.")
    return [store for store in stores if store.name in only] if only else stores


def _count(exports: Exports) -> str:
    complete, stores = len(exports.complete), len(exports.standings)
    return f"{complete:,} of {counted(stores, 'store')} complete"


def _go_on(exports: Exports) -> str:
    if exports.complete or any(one.kept for one in exports.standings):
        return "What came so far is kept: give the same command --resume to continue"
    return "Nothing half-written is left"
