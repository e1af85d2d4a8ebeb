"""Where the stores' files go: into one folder, or wherever a pattern puts them."""

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
from b2b_payments.export._stores.store import Store, case_folded

NAME = "{name}"
_DATABASE_SUFFIXES = (".wal", "-wal", "-shm", "-journal")  # files that a database keeps beside its own


@frozen
class Places:
    """Where each store's file goes: `pattern` contains `{name}`, which stands for the store's name."""

    pattern: str
    format: str

    @property
    def folder(self) -> str:
        """The folder that holds all files, or all of their folders."""
        before = f"{self.pattern.partition(NAME)[0]}x"
        return before.rpartition("/")[0] if is_url(self.pattern) else str(Path(before).parent)

    @property
    def absolute(self) -> Places:
        """The same places, for a process with another working folder."""
        return self if is_url(self.pattern) else Places(os.path.abspath(self.pattern), self.format)

    def of(self, store: Store) -> str:
        """Return the path or URL of a store's file."""
        place = self.pattern.replace(NAME, store.name)
        return place if is_url(place) else str(Path(place))

    def make_folders(self, stores: Sequence[Store]) -> None:
        """Create missing folders, but not the parent of `folder`. Raises ConfigurationError."""
        if is_url(self.pattern):
            return
        parents = (Path(self.of(store)).parent for store in stores)
        for folder in dict.fromkeys([Path(self.folder), *parents]):
            try:
                folder.mkdir(exist_ok=True)
            except FileNotFoundError:
                raise ConfigurationError(
                    f"{folder} cannot be made: {folder.parent} does not exist."
                ) from None
            except OSError as error:
                raise ConfigurationError(f"{folder} cannot be made: {error.strerror}.") from None

    def refuse_shared_files(self, stores: Sequence[Store]) -> None:
        """Check that no two stores write the same file. Raises ConfigurationError."""
        owners: dict[str, Store] = {}
        for store in stores:
            for place in self._files_of(store):
                if (first := owners.setdefault(case_folded(str(place)), store)) is not store:
                    raise ConfigurationError(
                        f"{first.name!r} and {store.name!r} would both write {place}: give one of "
                        "them another name."
                    )

    def _files_of(self, store: Store) -> Iterator[PurePath]:
        target = PurePath(self.of(store))
        yield from (target, manifest_path(target))
        if self.format == "csv":
            yield companion_of(target)
        yield from (target.with_name(f"{target.name}{ending}") for ending in _DATABASE_SUFFIXES)


def places_of(path: PathLike, format_: str | None) -> Places:
    """Parse the output of many stores: a folder or a pattern. Raises ConfigurationError."""
    output = os.fspath(path_of(path))
    if format_ is not None and format_ not in FORMATS:
        raise ConfigurationError(f"{shown(format_)} is not a format: give {', '.join(FORMATS)}.")
    if NAME in output:
        return _by_pattern(output, format_)
    if is_url(output):
        bucket_and_name(output, folder=True)  # refuses other addresses, which may hold a password
    if "{" in output:
        raise ConfigurationError(f"{output!r} contains a brace, and only {NAME} is replaced: leave it out.")
    ending = format_by_ending(output)
    if (ending or Path(output).is_file()) and not output.endswith(os.sep) and not Path(output).is_dir():
        folder, file = os.path.split(output)
        pattern = os.path.join(folder, f"{NAME}{Path(file).suffix or '.jsonl'}")
        raise ConfigurationError(
            f"{output!r} is one file, and each store has its own: name a folder, or a pattern such as "
            f"{pattern!r}."
        )
    if format_ is None:
        pattern = os.path.join(output, f"{NAME}.jsonl")
        raise ConfigurationError(
            f"The format of {output!r} is unknown: pass a format, or use a pattern such as {pattern!r}."
        )
    return Places(os.path.join(output, f"{NAME}{FORMATS[format_].endings[0]}"), format_)


def _by_pattern(output: str, format_: str | None) -> Places:
    format_ = format_of(output, format_)
    if "{" in output.replace(NAME, ""):
        raise ConfigurationError(f"{output!r} has another brace, and only {NAME} is replaced: leave it out.")
    places = Places(output, format_)
    if is_url(output):
        if not is_url(places.folder):
            raise ConfigurationError(f"{output!r} is a bucket for each store: put {NAME} after the bucket.")
        bucket_and_name(places.folder, folder=True)
    return places
