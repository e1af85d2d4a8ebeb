"""Where the stores' files go: into a folder, or where a pattern says."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from b2b_payments._cli.command import CommandError
from b2b_payments._cli.exporting import STDOUT, format_of_file
from b2b_payments._cli.stores.file import Store, folded
from b2b_payments._formats import FORMATS, format_by_ending
from b2b_payments._printable import frozen
from b2b_payments.export._csv import companion_of
from b2b_payments.export._manifest import manifest_path

NAME = "{name}"
_BESIDE = (".wal", "-wal", "-shm", "-journal")  # what a database keeps beside its file


@frozen
class Places:
    """Where each store's file goes: `pattern` has `{name}` in it. `folder` is the one that they share."""

    pattern: str
    format: str

    @property
    def folder(self) -> Path:
        """The folder that all files are in, or that their folders are in."""
        return Path(self.pattern.partition(NAME)[0] + "x").parent

    def of(self, store: Store) -> Path:
        """Give a store's file."""
        return Path(self.pattern.replace(NAME, store.name))

    def make_folders(self, stores: Sequence[Store]) -> None:
        """Make the folders that are not there, but not what they should be in. Raises CommandError."""
        for folder in dict.fromkeys([self.folder, *(self.of(store).parent for store in stores)]):
            try:
                folder.mkdir(exist_ok=True)
            except FileNotFoundError:
                raise CommandError(f"{folder} cannot be made: {folder.parent} is not there.") from None
            except OSError as error:
                raise CommandError(f"{folder} cannot be made: {error.strerror}.") from None

    def refuse_one_file(self, path: str, stores: Sequence[Store]) -> None:
        """Check that no store writes where another does. Raises CommandError."""
        owners: dict[str, Store] = {}
        for store in stores:
            for place in self._written(store):
                if (first := owners.setdefault(folded(str(place)), store)) is not store:
                    raise CommandError(
                        f"{path}: {first.name!r} and {store.name!r} would both write {place}: give one of "
                        "them another name."
                    )

    def _written(self, store: Store) -> Iterator[Path]:
        target = self.of(store)
        yield from (target, manifest_path(target))
        if self.format == "csv":
            yield companion_of(target)
        yield from (target.with_name(f"{target.name}{ending}") for ending in _BESIDE)


def places_of(output: str, format_: str | None) -> Places:
    """Read --output and --format as they are meant beside --stores. Raises UsageError."""
    if output == STDOUT:
        raise click.UsageError("Standard output takes one store: give --stores a folder as --output.")
    if NAME in output:
        return _by_pattern(output, format_)
    if "{" in output:
        raise click.UsageError(f"{output!r} has a brace, and {NAME} is all that is replaced there.")
    ending = format_by_ending(output)
    if (ending or Path(output).is_file()) and not output.endswith(os.sep) and not Path(output).is_dir():
        folder, file = os.path.split(output)
        pattern = os.path.join(folder, f"{NAME}{Path(file).suffix or '.jsonl'}")
        raise click.UsageError(
            f"{output!r} is one file, and each store has its own: give a folder, or a pattern such as "
            f"{pattern!r}."
        )
    if format_ is None:
        pattern = os.path.join(output, f"{NAME}.jsonl")
        raise click.UsageError(
            f"{output!r} does not say the format: give --format, or a pattern such as {pattern!r}."
        )
    return Places(os.path.join(output, f"{NAME}{FORMATS[format_].endings[0]}"), format_)


def _by_pattern(output: str, format_: str | None) -> Places:
    format_ = format_of_file(output, format_)
    if "{" in output.replace(NAME, ""):
        raise click.UsageError(f"{output!r} has another brace, and {NAME} is all that is replaced there.")
    return Places(output, format_)
