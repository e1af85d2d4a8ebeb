"""Where the stores' files go: into a folder, or where a pattern says."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from b2b_payments._errors import ConfigurationError, shown
from b2b_payments._formats import FORMATS, format_by_ending
from b2b_payments._printable import frozen
from b2b_payments.export._bucket import bucket_and_name, is_url
from b2b_payments.export._csv import companion_of
from b2b_payments.export._file import PathLike, path_of
from b2b_payments.export._manifest import manifest_path
from b2b_payments.export._placed import format_of
from b2b_payments.export._stores.store import Store, folded

NAME = "{name}"
_BESIDE = (".wal", "-wal", "-shm", "-journal")  # what a database keeps beside its file


@frozen
class Places:
    """Where each store's file goes: `pattern` has `{name}` in it. `folder` is the one that they share."""

    pattern: str
    format: str

    @property
    def folder(self) -> str:
        """The folder that all files are in, or that their folders are in."""
        before = f"{self.pattern.partition(NAME)[0]}x"
        return before.rpartition("/")[0] if is_url(self.pattern) else str(Path(before).parent)

    def of(self, store: Store) -> str:
        """Return a store's file."""
        place = self.pattern.replace(NAME, store.name)
        return place if is_url(place) else str(Path(place))

    def make_folders(self, stores: Sequence[Store]) -> None:
        """Make the folders that are not there, but not what they should be in. Raises ConfigurationError."""
        if is_url(self.pattern):
            return
        parents = (Path(self.of(store)).parent for store in stores)
        for folder in dict.fromkeys([Path(self.folder), *parents]):
            try:
                folder.mkdir(exist_ok=True)
            except FileNotFoundError:
                raise ConfigurationError(f"{folder} cannot be made: {folder.parent} is not there.") from None
            except OSError as error:
                raise ConfigurationError(f"{folder} cannot be made: {error.strerror}.") from None

    def refuse_one_file(self, stores: Sequence[Store]) -> None:
        """Check that no store writes where another does. Raises ConfigurationError."""
        owners: dict[str, Store] = {}
        for store in stores:
            for place in self._written(store):
                if (first := owners.setdefault(folded(str(place)), store)) is not store:
                    raise ConfigurationError(
                        f"{first.name!r} and {store.name!r} would both write {place}: give one of "
                        "them another name."
                    )

    def _written(self, store: Store) -> Iterator[PurePath]:
        target = PurePath(self.of(store))
        yield from (target, manifest_path(target))
        if self.format == "csv":
            yield companion_of(target)
        yield from (target.with_name(f"{target.name}{ending}") for ending in _BESIDE)


def places_of(path: PathLike, format_: str | None) -> Places:
    """Read where many stores go, and in which format. Raises ConfigurationError."""
    output = os.fspath(path_of(path))
    if format_ is not None and format_ not in FORMATS:
        raise ConfigurationError(f"{shown(format_)} is not a format: give {', '.join(FORMATS)}.")
    if NAME in output:
        return _by_pattern(output, format_)
    if is_url(output):
        bucket_and_name(output, folder=True)  # another address may have a password in it
    if "{" in output:
        raise ConfigurationError(f"{output!r} has a brace, and {NAME} is all that is replaced there.")
    ending = format_by_ending(output)
    if (ending or Path(output).is_file()) and not output.endswith(os.sep) and not Path(output).is_dir():
        folder, file = os.path.split(output)
        pattern = os.path.join(folder, f"{NAME}{Path(file).suffix or '.jsonl'}")
        raise ConfigurationError(
            f"{output!r} is one file, and each store has its own: give a folder, or a pattern such as "
            f"{pattern!r}."
        )
    if format_ is None:
        pattern = os.path.join(output, f"{NAME}.jsonl")
        raise ConfigurationError(
            f"{output!r} does not say the format: name the format, or give a pattern such as {pattern!r}."
        )
    return Places(os.path.join(output, f"{NAME}{FORMATS[format_].endings[0]}"), format_)


def _by_pattern(output: str, format_: str | None) -> Places:
    format_ = format_of(output, format_)
    if "{" in output.replace(NAME, ""):
        raise ConfigurationError(f"{output!r} has another brace, and {NAME} is all that is replaced there.")
    found = Places(output, format_)
    if is_url(output):
        if not is_url(found.folder):
            raise ConfigurationError(
                f"{output!r} is a bucket for each store: write {NAME} behind the bucket."
            )
        bucket_and_name(found.folder, folder=True)
    return found
