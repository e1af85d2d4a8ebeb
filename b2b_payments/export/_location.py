"""Where an export is: a folder of this machine, or an object store.

In an object store all of an export is below its name, but for the manifest beside that::

    payments.parquet.manifest.json                                what there is: put last, if it is as it was
    payments.parquet/00000003-5f2c9a1b7d3e4f60/payments.parquet   the data of the third export
    payments.parquet/_log/00000004.00000017                       a segment of the fourth, which is under way

Each manifest has the number of the one it took the place of, and one more. Everything of a number that is not
above the manifest's belongs to an export that can put none any more: what of it the manifest does not name
can be removed, whoever left it. The data of the number before stays until the next export, for who reads it.
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
from b2b_payments.export._bucket import Bucket, Version, bucket_and_name, is_url
from b2b_payments.export._file import Lock, PathLike, path_of, writable, writing
from b2b_payments.export._log import Folder, Part, segment_parts
from b2b_payments.export._manifest import MANIFEST, Manifest, numbered_manifest, parse_manifest, read_manifest

_INCOMPLETE = ".incomplete"
_BESIDE = (f"{{}}{_INCOMPLETE}{MANIFEST}", ".{}.export.old", ".{}.lock")
_DATA = re.compile(r"(?P<folder>(?P<number>[0-9]{8,})-[0-9a-f]{16})/(?P<file>.+)").fullmatch
_PROBE = "probe"
_LOG = "_log/"
TargetsOf = Callable[[Path], Sequence[Path]]
_SEGMENT = re.compile(r"([0-9]{8,})\.([0-9]{8,})").fullmatch


class Location:
    """A file in a folder of this machine: its log stands hidden beside it, and locks keep others away.

    `targets_of` gives the files that are made for a target. Raises ConfigurationError for a path that cannot
    be written to.
    """

    objects: tuple[str, ...] = ()
    """The URLs of the data, once it is in an object store."""

    def __init__(self, path: PathLike, targets_of: TargetsOf) -> None:
        self.shown: Path | str = Path(path)
        self.target: Path = writable(path, _BESIDE)
        self.folder: Folder = Folder(self.target.with_name(f".{self.target.name}.export"))
        self.targets: Sequence[Path] = targets_of(self.target)
        """The files that are to be made."""
        for target in self.targets:
            writable(target)
        self._locks = [Lock(target) for target in self.targets]
        self._targets_of = targets_of

    def enter(self) -> None:
        """Make ready. Raises AlreadyRunningError where another export has one of the targets."""
        for lock in self._locks:
            lock.acquire()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn an error of the operating system into a sentence. Raises ExportError."""
        with writing(self.shown):
            yield

    def leave(self) -> None:
        """Let go."""
        for lock in self._locks:
            lock.release()

    def beside(self) -> Location:
        """Return the location of an export that is not complete, where one that may be stays in its place."""
        incomplete = f"{self.target.stem}{_INCOMPLETE}{self.target.suffix}"
        return Location(self.target.with_name(incomplete), self._targets_of)

    def stands(self, holds: Callable[[Path], bool]) -> bool:
        """Whether an export stands there that is not known to be incomplete."""
        if not holds(self.target):
            return False
        with suppress(ExportError):
            return read_manifest(self.target).account.complete
        return True

    @property
    def marks(self) -> Mapping[str, Any]:
        """What the manifest has to say of it."""
        return {}

    def publish(self, manifest: bytes | None) -> None:
        """Let others see what was made. Raises ExportError where another export was faster."""

    def clean(self) -> int:
        """Remove what interrupted exports left; give how many files or objects that were.

        Raises ExportError, AlreadyRunningError where an export is under way.
        """
        try:
            self.enter()
            with writing(self.shown):
                found = len(self.folder.sizes())
                self.folder.keep([], found)
                return found
        finally:
            self.leave()


@frozen
class _Base:
    """The manifest as it was when an export began."""

    version: Version | None = None
    data: bytes = b""
    manifest: Manifest | None = None

    @property
    def number(self) -> int:
        """How many exports there were."""
        return 0 if self.manifest is None else self.manifest.number


class Objects(Folder):
    """A log in an object store. A copy of it is in the folder, which what is made of it is made from."""

    contested = True

    def __init__(self, bucket: Bucket, name: str, copy: Path) -> None:
        super().__init__(copy)
        self._bucket = bucket
        self._name = name
        self._base: _Base | None = None

    def begin(self) -> None:
        """Look at the manifest anew."""
        self._base = None

    @property
    def base(self) -> _Base:
        """The manifest as it was when this began."""
        if self._base is None:
            try:
                data, version = self._bucket.get(f"{self._name}{MANIFEST}")
            except FileNotFoundError:
                self._base = _Base()
            else:
                self._base = _Base(version, data, parse_manifest(data, f"{self._name}{MANIFEST}"))
        return self._base

    @property
    def number(self) -> int:
        """The number of this export."""
        return self.base.number + 1

    def sizes(self) -> Mapping[int, int]:
        """Return the numbers of the segments that are there, and how many bytes each has."""
        found = self._bucket.sizes(f"{self._name}/{_LOG}")
        sizes = {_numbers(name): size for name, size in found.items()}
        return {number[1]: size for number, size in sizes.items() if number[:1] == (self.number,)}

    def file(self, number: int, part: int = 0) -> Path:
        """Return the file of a part. Raises FileNotFoundError."""
        if not super().file(number).exists():
            data, _ = self._bucket.get(self._segment(number))
            super().put(number, segment_parts(data))
        return super().file(number, part)

    def put(self, number: int, parts: Sequence[Part]) -> None:
        """Put a segment down, once and for good, and where nothing was published meanwhile.

        Raises FileExistsError where that is not so.
        """
        if self._bucket.version(f"{self._name}{MANIFEST}") != self.base.version:
            raise FileExistsError(number)
        self._bucket.put(self._segment(number), b"".join(piece for part in parts for piece in part))
        super().put(number, parts)

    def keep(self, numbers: Collection[int], last: int) -> None:
        """Remove all segments but these, up to the last that is the writer's, and those of older exports."""
        kept = {(self.number, number) for number in numbers}
        with suppress(OSError):  # the next one does it
            found = filter(_numbers, self._bucket.sizes(f"{self._name}/{_LOG}"))
            gone = [one for one in found if (at := _numbers(one)) <= (self.number, last) and at not in kept]
            self._bucket.remove([f"{self._name}/{_LOG}{one}" for one in gone])

    def _segment(self, number: int) -> str:
        return f"{self._name}/{_LOG}{self.number:08}.{number:08}"


def _numbers(segment: str) -> tuple[int, ...]:
    found = _SEGMENT(segment)
    return () if found is None else tuple(map(int, found.groups()))


class ObjectLocation(Location):
    """An object in a store. Its files are made in a temporary folder of this machine.

    Nothing keeps another export away: of two, the one that began last goes on, and the other stops at its
    next commit.

    Raises ConfigurationError for a URL that cannot be, and where the extra `cloud` is missing.
    """

    def __init__(self, url: str, targets_of: TargetsOf) -> None:
        self.shown = url.removesuffix("/")
        self._bucket, self._name = bucket_and_name(url)
        self._token = token_hex(8)
        self._all = f"b2b-payments-{hashlib.sha256(self.shown.encode()).hexdigest()[:16]}"
        self._own = Path(gettempdir()) / f"{self._all}-{self._token}"
        self._lock = Lock(self._own)
        self.target = self._own / self._name.rpartition("/")[2]
        self.targets = targets_of(self.target)
        self._targets_of = targets_of
        self.folder: Objects = Objects(self._bucket, self._name, self._own / "log")

    def enter(self) -> None:
        """Make ready. Raises ConfigurationError for a store that does not keep conditional puts."""
        self.folder.begin()
        self._bucket.check_conditions(f"{self._name}/{self._folder}/{_PROBE}")
        for left in self._own.parent.glob(f"{self._all}-*"):
            lock = Lock(left)
            with suppress(ExportError):  # it is in use, or another user's
                lock.acquire()
                shutil.rmtree(left, ignore_errors=True)
                lock.release()
        self._lock.acquire()
        self._own.mkdir(0o700)
        self.folder.path.mkdir()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Do the same, and say whose disk is full."""
        with super().writing():
            try:
                yield
            except OSError as error:
                if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                    raise
                where = f"{error.strerror} in {self._own.parent}, where it is made before (TMPDIR)"
                raise OSError(error.errno, where) from None

    def leave(self) -> None:
        """Let go."""
        if self._lock.held:
            shutil.rmtree(self._own, ignore_errors=True)
            self._lock.release()

    def beside(self) -> Location:
        """Return the location of an export that is not complete, where one that may be stays in its place."""
        suffix = self.target.suffix
        url = f"{str(self.shown).removesuffix(suffix)}{_INCOMPLETE}{suffix}"
        return ObjectLocation(url, self._targets_of)

    def stands(self, holds: Callable[[Path], bool]) -> bool:
        """Whether an export stands there that is not known to be incomplete."""
        del holds
        manifest = self.folder.base.manifest
        return manifest is not None and manifest.account.complete

    @property
    def marks(self) -> Mapping[str, Any]:
        """This export's number, and where its data is, seen from the manifest."""
        files = [f"{self.target.name}/{self._folder}/{target.name}" for target in self.targets]
        return {"number": self.folder.number, "files": files}

    def publish(self, manifest: bytes | None) -> None:
        """Put what was made, and then the manifest. Raises ExportError where another export was faster."""
        if manifest is None:
            raise ExportError(f"{self.shown} could not be written: its checkpoint has no account.")
        names = [f"{self._name}/{self._folder}/{target.name}" for target in self.targets]
        for name, target in zip(names, self.targets, strict=True):
            self._bucket.upload(name, target)
        try:
            self._bucket.put(f"{self._name}{MANIFEST}", manifest, self.folder.base.version)
        except FileExistsError:
            with suppress(OSError):
                self._bucket.remove(names)
            raise ExportError(
                f"Another export to {self.shown} has ended meanwhile, and is what is there now: this one "
                "changes nothing."
            ) from None
        self.objects = tuple(f"{self.shown}/{self._folder}/{target.name}" for target in self.targets)
        self._remove_older()

    def clean(self) -> int:
        """Remove what interrupted exports left, and what was replaced; give how many objects that were.

        Where there is a manifest, it gets another number: no export that is under way can put its own then.
        Raises ExportError where one has done so meanwhile.
        """
        with writing(self.shown):
            base = self.folder.base
            files = () if base.manifest is None else base.manifest.files
            kept = {file.split("/")[1] for file in files}
            found = self._bucket.sizes(self._name)
            ours = [one for one in found if _DATA(one) or _numbers(one.removeprefix(_LOG))]
            left = [one for one in ours if one.split("/")[0] not in kept]
            if left and base.data:
                numbered = numbered_manifest(base.data, base.number + 1)
                try:
                    self._bucket.put(f"{self._name}{MANIFEST}", numbered, base.version)
                except FileExistsError:
                    raise ExportError(f"An export to {self.shown} has just ended: clean again.") from None
            self._bucket.remove([f"{self._name}/{one}" for one in left])
            return len(left)

    def _remove_older(self) -> None:
        """Remove what no manifest can name any more, but what this export took the place of.

        A probe of this number may be that of an export that has just begun.
        """
        with suppress(OSError):  # the next one does it
            found = filter(None, map(_DATA, self._bucket.sizes(self._name)))
            gone = [one[0] for one in found if self._is_older(int(one["number"]), one["folder"], one["file"])]
            self._bucket.remove([f"{self._name}/{one}" for one in gone])

    def _is_older(self, number: int, folder: str, file: str) -> bool:
        now = self.folder.number
        return number < now - 1 or (number == now and folder != self._folder and file != _PROBE)

    @property
    def _folder(self) -> str:
        return f"{self.folder.number:08}-{self._token}"


def location_of(path: PathLike, targets_of: TargetsOf = lambda target: [target]) -> Location:
    """Return the location that a path or a URL names. Raises ConfigurationError."""
    return ObjectLocation(str(path), targets_of) if is_url(path) else Location(path_of(path), targets_of)
