"""The location of an export: a local folder, or an object store.

In an object store, all objects of an export are below its name, except the manifest::

    payments.parquet.manifest.json                                names the data: put last, only if unchanged
    payments.parquet/00000003-5f2c9a1b7d3e4f60/payments.parquet   the data of the third export
    payments.parquet/_log/00000004.00000017                       a segment of the fourth, which is running

Each manifest has the number of the manifest it replaced, plus one. An export whose number is not above the
manifest's can no longer commit or publish, so its objects can be removed unless the manifest names them. The
replaced data stays until the next export, for programs that are still reading it.
"""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from tempfile import gettempdir
from typing import Any

from b2b_payments._errors import ExportError
from b2b_payments._printable import frozen
from b2b_payments.export._account import Account
from b2b_payments.export._bucket import Bucket, Version, bucket_and_name, is_url
from b2b_payments.export._file import Lock, PathLike, path_of, writable, writing
from b2b_payments.export._log import LogFolder, Part, segment_parts
from b2b_payments.export._manifest import (
    MANIFEST,
    Manifest,
    manifest_path,
    numbered_manifest,
    parse_manifest,
    read_manifest,
)

_INCOMPLETE = ".incomplete"
_data_name = re.compile(r"(?P<folder>(?P<number>[0-9]{8,})-[0-9a-f]{16})/.+").fullmatch
_LOG = "_log/"
TargetsOf = Callable[[Path], Sequence[Path]]
_segment_name = re.compile(r"([0-9]{8,})\.([0-9]{8,})").fullmatch


class Location:
    """A local file. Its log is in a hidden folder next to it, and locks keep other exports out.

    `targets_of` returns the files that an export writes for a target. Raises ConfigurationError if the path
    is not writable.
    """

    objects: tuple[str, ...] = ()
    """The URLs of the data, once it is published in an object store."""

    def __init__(self, path: PathLike, targets_of: TargetsOf) -> None:
        self.shown: Path | str = Path(path)
        self.target: Path = writable(path)
        writable(manifest_path(self.target))  # the longest name beside it, unless there are line items
        self.folder: LogFolder = LogFolder(self.target.with_name(f".{self.target.name}.export"))
        self.targets: Sequence[Path] = targets_of(self.target)
        """The files that the export writes."""
        for target in self.targets:
            writable(target, [".{}.lock"])
        self._locks = [Lock(target) for target in self.targets]
        self._targets_of = targets_of

    def enter(self) -> None:
        """Lock the targets. Raises AlreadyRunningError if another export or sync holds one of the locks."""
        for lock in self._locks:
            lock.acquire()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Raise an ExportError in place of an OSError."""
        with writing(self.shown):
            yield

    def leave(self) -> None:
        for lock in self._locks:
            lock.release()

    def incomplete_location(self) -> Location:
        """Return the location for an incomplete export that must not replace the export at this one."""
        incomplete = f"{self.target.stem}{_INCOMPLETE}{self.target.suffix}"
        return Location(self.target.with_name(incomplete), self._targets_of)

    def has_export(self, holds: Callable[[Path], bool]) -> bool:
        """Whether an export exists here that is not known to be incomplete."""
        if not holds(self.target):
            return False
        with suppress(ExportError):
            return read_manifest(self.target).account.complete
        return True

    @property
    def manifest_fields(self) -> Mapping[str, Any]:
        """The fields that this location adds to the manifest."""
        return {}

    def publish(self, manifest: bytes | None) -> None:
        """Make the output visible, which a local file already is."""

    def clean(self) -> int:
        """Remove what interrupted exports left. Returns how many segments or objects were removed.

        Raises ExportError, and AlreadyRunningError if an export is running.
        """
        try:
            self.enter()
            with writing(self.shown):
                found = len(self.folder.sizes())
                self.folder.clear()
                return found
        finally:
            self.leave()


@frozen
class _ManifestAtStart:
    """The manifest as it was when an export began; if there was none, that of an export without files."""

    version: Version | None = None
    data: bytes = b""
    manifest: Manifest = Manifest(Account({}), "", {})

    @property
    def data_folders(self) -> set[str]:
        """The folders of the data that the manifest names."""
        return {file.split("/")[1] for file in self.manifest.files}


class ObjectLog(LogFolder):
    """A log in an object store. The folder holds a local copy, from which the output is made."""

    contested = True

    def __init__(self, bucket: Bucket, name: str, copy: Path) -> None:
        super().__init__(copy)
        self._bucket = bucket
        self._name = name
        self._base: _ManifestAtStart | None = None
        self._ended = False

    def begin(self) -> None:
        """Forget the manifest, so that it is read again."""
        self._base, self._ended = None, False

    @property
    def base(self) -> _ManifestAtStart:
        """The manifest as it was when this export began."""
        # In Python 3.11, a cached_property would make all threads wait for this request.
        if self._base is None:
            try:
                data, version = self._bucket.get(f"{self._name}{MANIFEST}")
            except FileNotFoundError:
                self._base = _ManifestAtStart()
            else:
                self._base = _ManifestAtStart(version, data, parse_manifest(data, f"{self._name}{MANIFEST}"))
        return self._base

    @property
    def number(self) -> int:
        return self.base.manifest.number + 1

    def sizes(self) -> Mapping[int, int]:
        """Return the size in bytes of each existing segment of this export, by its number."""
        found = self._bucket.sizes(f"{self._name}/{_LOG}")
        sizes = {_numbers_of(name): size for name, size in found.items()}
        return {number[1]: size for number, size in sizes.items() if number[:1] == (self.number,)}

    def file(self, number: int, part: int = 0) -> Path:
        """Return the file of a part, downloading its segment if needed. Raises FileNotFoundError."""
        if not super().file(number).exists():
            data, _ = self._bucket.get(self._segment(number))
            super().put(number, segment_parts(data))
        return super().file(number, part)

    def put(self, number: int, parts: Sequence[Part]) -> None:
        """Write a segment. Raises FileExistsError if it exists, or if the manifest has changed meanwhile.

        The manifest is checked since, once it has changed, there may be no segments left to collide with.
        """
        if self._bucket.version(f"{self._name}{MANIFEST}") != self.base.version:
            raise FileExistsError(number)
        self._bucket.put(self._segment(number), b"".join(piece for part in parts for piece in part))
        super().put(number, parts)

    def put_manifest(self, manifest: bytes) -> None:
        """Put a manifest, after which no export that has begun before can commit or publish.

        Raises FileExistsError if the manifest has changed since this export began.
        """
        self._bucket.put(f"{self._name}{MANIFEST}", manifest, self.base.version)
        self._ended = True

    def end_all(self) -> None:
        """Unless `put_manifest` did so, end all exports that have begun: the manifest gets a new number."""
        if not self._ended:
            self.put_manifest(numbered_manifest(self.base.data, self.number))

    def remove(self, numbers: Collection[int]) -> None:
        """Remove segments, which no other export may need."""
        with suppress(OSError):  # the next export removes them
            self._bucket.remove([self._segment(number) for number in numbers])

    def clear(self) -> None:
        """Remove all segments of this and older exports, which all have ended then."""
        with suppress(OSError):  # the next export removes them
            self.end_all()
            found = filter(_numbers_of, self._bucket.sizes(f"{self._name}/{_LOG}"))
            gone = [one for one in found if _numbers_of(one)[0] <= self.number]
            self._bucket.remove([f"{self._name}/{_LOG}{one}" for one in gone])

    def _segment(self, number: int) -> str:
        return f"{self._name}/{_LOG}{self.number:08}.{number:08}"


def _numbers_of(segment: str) -> tuple[int, ...]:
    found = _segment_name(segment)
    return () if found is None else tuple(map(int, found.groups()))


class ObjectLocation(Location):
    """An object in an object store. Its files are made in a local temporary folder.

    There is no lock: of two exports to it, the one that began or resumed last continues, and the other one
    stops at its next commit.

    Raises ConfigurationError for an invalid URL, or if the extra `cloud` is missing.
    """

    def __init__(self, url: str, targets_of: TargetsOf) -> None:
        self.shown = url.removesuffix("/")
        self._bucket, self._name = bucket_and_name(url)
        self._token = token_hex(8)
        self._prefix = f"b2b-payments-{hashlib.sha256(self.shown.encode()).hexdigest()[:16]}"
        self._temporary = Path(gettempdir()) / f"{self._prefix}-{self._token}"
        self._lock = Lock(self._temporary)
        self.target = self._temporary / self._name.rpartition("/")[2]
        self.targets = targets_of(self.target)
        self._targets_of = targets_of
        self.folder: ObjectLog = ObjectLog(self._bucket, self._name, self._temporary / "log")

    def enter(self) -> None:
        """Create the temporary folder. Raises ConfigurationError if the store has no conditional puts."""
        self.folder.begin()
        self._bucket.check_conditions(f"{self._name}/{self._data_folder}/probe")
        for left in self._temporary.parent.glob(f"{self._prefix}-*"):
            with suppress(ExportError), Lock(left):  # in use, or owned by another user
                shutil.rmtree(left, ignore_errors=True)
        self._lock.acquire()
        self._temporary.mkdir(0o700)
        self.folder.path.mkdir()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Raise an ExportError in place of an OSError. If a disk is full, name the temporary folder."""
        with super().writing():
            try:
                yield
            except OSError as error:
                if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                    raise
                where = f"{error.strerror} in the temporary folder {self._temporary.parent} (TMPDIR)"
                raise OSError(error.errno, where) from None

    def leave(self) -> None:
        """Remove the temporary folder, and release its lock."""
        if self._lock.held:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._lock.release()

    def incomplete_location(self) -> Location:
        suffix = self.target.suffix
        url = f"{str(self.shown).removesuffix(suffix)}{_INCOMPLETE}{suffix}"
        return ObjectLocation(url, self._targets_of)

    def has_export(self, holds: Callable[[Path], bool]) -> bool:
        """Whether an export exists here whose manifest says that it is complete."""
        del holds
        return self.folder.base.manifest.account.complete

    @property
    def manifest_fields(self) -> Mapping[str, Any]:
        """This export's number, and the paths of its data, relative to the manifest's folder."""
        files = [f"{self.target.name}/{self._data_folder}/{target.name}" for target in self.targets]
        return {"number": self.folder.number, "files": files}

    def publish(self, manifest: bytes | None) -> None:
        """Upload the files, then the manifest. Raises ExportError if another export was published first."""
        if manifest is None:
            raise ExportError(f"{self.shown} could not be written: its checkpoint has no account.")
        names = [f"{self._name}/{self._data_folder}/{target.name}" for target in self.targets]
        for name, target in zip(names, self.targets, strict=True):
            self._bucket.upload(name, target)
        try:
            self.folder.put_manifest(manifest)
        except FileExistsError:
            with suppress(OSError):
                self._bucket.remove(names)
            raise ExportError(
                f"Another export to {self.shown} has ended meanwhile, or it was cleaned: this one changes "
                "nothing."
            ) from None
        self.objects = tuple(f"{self.shown}/{self._data_folder}/{target.name}" for target in self.targets)
        self._remove_older()

    def clean(self) -> int:
        """Remove what interrupted exports left, and replaced data. Returns how many objects were removed.

        Before, the manifest gets a new number, so that no running export can go on. If there is none, one
        without files is put. Raises ExportError if an export has published meanwhile.
        """
        with writing(self.shown):
            self.folder.begin()
            kept = self.folder.base.data_folders
            found = self._bucket.sizes(self._name)
            ours = [one for one in found if _data_name(one) or _numbers_of(one.removeprefix(_LOG))]
            left = [one for one in ours if one.split("/")[0] not in kept]
            if left:
                try:
                    self.folder.end_all()
                except FileExistsError:
                    raise ExportError(f"An export to {self.shown} has just ended: clean again.") from None
            self._bucket.remove([f"{self._name}/{one}" for one in left])
            return len(left)

    def _remove_older(self) -> None:
        """Remove data that no manifest can name any longer, except the data that this export replaced."""
        with suppress(OSError):  # the next export removes it
            now, kept = self.folder.number, {self._data_folder, *self.folder.base.data_folders}
            found = filter(None, map(_data_name, self._bucket.sizes(self._name)))
            gone = [one[0] for one in found if int(one["number"]) <= now and one["folder"] not in kept]
            self._bucket.remove([f"{self._name}/{one}" for one in gone])

    @property
    def _data_folder(self) -> str:
        return f"{self.folder.number:08}-{self._token}"


def location_of(path: PathLike, targets_of: TargetsOf = lambda target: [target]) -> Location:
    """Return the location for a path or a URL. Raises ConfigurationError."""
    return ObjectLocation(str(path), targets_of) if is_url(path) else Location(path_of(path), targets_of)
