"""Which stores of a file, and where and how many at once: the options that stand beside --stores."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import click

from b2b_payments._cli import values
from b2b_payments._cli.command import Handler, with_options
from b2b_payments._cli.values import AT_LEAST_ONE, TEXT

_OPTIONS = (
    click.option(
        "--stores",
        metavar="FILE",
        type=TEXT,
        help="The stores of a TOML file, each with its own file.",
    ),
    click.option(
        "--only",
        metavar="NAME",
        type=TEXT,
        multiple=True,
        help="Of --stores, this one alone. May be repeated.",
    ),
    click.option(
        "--shard",
        metavar="I/N",
        type=values.shard,
        help="Of --stores, those that belong to this part of so many, by their names.",
    ),
    click.option("--at-once", metavar="N", type=AT_LEAST_ONE, help="Of --stores, so many at once. [8]"),
    click.option(
        "--dask",
        metavar="ADDRESS",
        type=TEXT,
        help="Export --stores on the workers of this Dask scheduler, or of a cluster of its own: local.",
    ),
    click.option("--workers", metavar="N", type=AT_LEAST_ONE, help="Processes of --dask local. [one a CPU]"),
)


@dataclass(frozen=True, repr=False)
class Fleet:
    """The stores of a file, and how they are exported."""

    path: str
    only: tuple[str, ...]
    shard: tuple[int, int] | None
    at_once: int
    dask: str | None
    workers: int | None


def fleet_options(function: Handler) -> Handler:
    """Give a command the options of many stores as one argument `fleet`, None where it is about one."""

    @functools.wraps(function)
    def chosen(
        *args: Any,
        stores: str | None,
        only: tuple[str, ...],
        shard: tuple[int, int] | None,
        at_once: int | None,
        dask: str | None,
        workers: int | None,
        **others: Any,
    ) -> None:
        given = {"--only": only, "--shard": shard, "--at-once": at_once, "--dask": dask, "--workers": workers}
        if stores is None:
            if option := next((option for option, value in given.items() if value), None):
                raise click.UsageError(f"{option} is about many stores: give --stores too, the file of them.")
            function(*args, fleet=None, **others)
            return
        if workers is not None and dask != "local":
            raise click.UsageError("--workers are processes of this machine: give --dask local too.")
        function(*args, fleet=Fleet(stores, only, shard, at_once or 8, dask, workers), **others)

    return with_options(chosen, _OPTIONS)
