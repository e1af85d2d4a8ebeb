"""Files that grow beside their targets, survive a kill at any instant, and appear when they are complete.

Beside ``payments.csv`` stand, hidden, while it is being written:

- ``.payments.csv.partial`` and the like: the bytes. Those up to the committed size count; later ones are cut
  off on resuming.
- ``.payments.csv.checkpoint``: the committed sizes and the checkpoint, replaced in one step once the bytes
  are on the disk. At the end it lists the renames to be made, so that whoever comes after a kill makes them.
- ``.payments.csv.lock``: held by the process that writes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from b2b_payments.errors import ConfigurationError
from b2b_payments.export.file import ExportError, Lock, PathLike, sync_folder, writable, writing
from b2b_payments.export.manifest import manifest_of, manifest_path, sha256_of
from b2b_payments.export.sink import Checkpoint

_VERSION = 1


class PartialFiles:
    """One export's files on their way. `companion` gives the name of a second file, from the first one's.

    Files that stand there already are replaced in one step each: whoever reads one sees the old or the new,
    never a part. They take over the permissions of the first. A symbolic link is followed, and stays a link.

    Raises ConfigurationError for a path that cannot be written to, before anything is; its methods raise
    ExportError.
    """

    def __init__(self, path: PathLike, *, format_: str, companion: str | None = None) -> None:
        self.path = Path(path)
        target = writable(self.path)
        self._format = format_
        self._targets = [target]
        if companion is not None:
            self._targets.append(writable(target.with_name(f"{target.stem}{companion}")))
        self._hidden = [one.with_name(f".{one.name}.partial") for one in self._targets]
        self.whole = self._beside("whole")
        self._state = self._beside("checkpoint")
        self._new_state = self._beside("checkpoint.new")
        self._manifest = self._beside("manifest")
        self._lock = Lock(target)
        self._files: list[BinaryIO] = []
        self._checkpoint: Checkpoint | None = None
        self.published = False

    @property
    def kept(self) -> bool:
        """Whether something is there to go on from."""
        return self._state.exists()

    @property
    def partial(self) -> Path:
        """The hidden first file."""
        return self._hidden[0]

    def open(self) -> None:
        """Begin anew; what an interrupted export left is removed."""
        self._lock.acquire()
        with writing(self.path):
            self._settle(self._read_state())
            self._begin()

    def resume(self) -> Checkpoint | None:
        """Go on behind the last commit; begin anew and give None where there was none."""
        self._lock.acquire()
        with writing(self.path):
            state = self._read_state()
            self._checkpoint = state.get("checkpoint")
            settled = self._settle(state)
            if self._checkpoint is None:
                self._begin()
            elif settled:
                self.published = True
            else:
                self._go_on(state["sizes"])
        return self._checkpoint

    def write(self, data: bytes, *, file: int = 0) -> None:
        """Write behind what was written."""
        if not self._files:
            raise ConfigurationError(f"{self.path} is not open: call open() first.")
        with writing(self.path):
            self._files[file].write(data)

    def commit(self, checkpoint: Checkpoint | None) -> None:
        """Put everything written so far on the disk, and then the checkpoint; for None, do nothing."""
        if checkpoint is None or self.published:
            return
        with writing(self.path):
            self._sync()
            sizes = [file.tell() for file in self._files]
            self._write_state({"sizes": sizes, "checkpoint": checkpoint})
        self._checkpoint = checkpoint

    def flush(self) -> None:
        """Hand everything written so far to the operating system."""
        with writing(self.path):
            for file in self._files:
                file.flush()

    def begin_whole(self) -> Path:
        """Begin a hidden file that is made of the first one at the end, to be published in its place."""
        _opened(self.whole, "wb", self._mode()).close()
        return self.whole

    def publish(self, *, whole: bool = False) -> None:
        """Let the files appear, and their manifest; if `whole`, what is at `self.whole` is the first."""
        if self.published:
            return
        if not self._files:
            raise ConfigurationError(f"{self.path} is not open: call open() first.")
        with writing(self.path):
            self._sync()
            self._close_files()
            places = [self.whole, *self._hidden[1:]] if whole else self._hidden
            if whole:
                with self.whole.open("rb") as file:
                    os.fsync(file.fileno())
            moves = list(zip(places, self._targets, strict=True))
            hashes = {target.name: sha256_of(place) for place, target in moves}
            text = manifest_of(self._checkpoint, self._format, hashes)
            if text is not None:
                _write(self._manifest, text, self._mode())
                moves.append((self._manifest, manifest_path(self._targets[0])))
            renames = [[place.name, target.name] for place, target in moves]
            state = {"checkpoint": self._checkpoint, "renames": renames}
            self._write_state(state)
            self._settle(state)
        self.published = True

    def close(self) -> None:
        """Let go. What was not published stays for `resume` where it was committed, and else is removed."""
        with suppress(OSError):
            self._close_files()
        with suppress(OSError):
            if self._lock.held and not self.kept:
                self._remove()
        self._lock.release()

    def _beside(self, ending: str) -> Path:
        target = self._targets[0]
        return target.with_name(f".{target.name}.{ending}")

    def _begin(self) -> None:
        self._remove()
        # At once, not at the end: what others may not read they may not read while it grows either.
        self._files = [_opened(place, "xb", self._mode()) for place in self._hidden]

    def _go_on(self, sizes: Sequence[int]) -> None:
        for place, size in zip(self._hidden, sizes, strict=True):
            if not place.is_file() or place.stat().st_size < size:
                raise ExportError(
                    f"What was kept of {self.path} is damaged: {place} is shorter than it was. Begin anew."
                )
            self._files.append(_opened(place, "r+b", self._mode()))
            self._files[-1].truncate(size)
            self._files[-1].seek(size)

    def _mode(self) -> int | None:
        target = self._targets[0]
        return stat.S_IMODE(target.stat().st_mode) if target.exists() else None

    def _sync(self) -> None:
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())

    def _close_files(self) -> None:
        files, self._files = self._files, []
        for file in files:
            # Closing writes what is still held back, which on a full disk fails once more.
            with suppress(OSError):
                file.close()

    def _read_state(self) -> dict[str, Any]:
        try:
            state: Any = msgspec.json.decode(self._state.read_bytes())
        except FileNotFoundError:
            return {}
        except msgspec.MsgspecError:
            state = {}
        if not isinstance(state, dict) or state.get("version") != _VERSION:
            raise ExportError(f"What was kept of {self.path} cannot be read; remove {self._state}.")
        known: dict[str, Any] = state
        return known

    def _write_state(self, state: Mapping[str, Any]) -> None:
        _write(self._new_state, msgspec.json.encode({"version": _VERSION, **state}), self._mode())
        self._new_state.replace(self._state)
        sync_folder(self._state.parent)

    def _settle(self, state: Mapping[str, Any]) -> bool:
        """Make the renames that are still to be made, and tidy up; tell whether there were any to make."""
        if "renames" not in state:
            return False
        folder = self._state.parent
        for hidden, target in state["renames"]:
            # One that is gone was renamed before the kill.
            with suppress(FileNotFoundError):
                (folder / hidden).replace(folder / target)
        manifest = manifest_path(self._targets[0])
        if manifest.name not in [target for _, target in state["renames"]]:
            manifest.unlink(missing_ok=True)
        sync_folder(folder)
        self._remove_hidden()
        self._state.unlink()
        return True

    def _remove(self) -> None:
        # First of all what says that there is something to go on from.
        self._state.unlink(missing_ok=True)
        self._remove_hidden()

    def _remove_hidden(self) -> None:
        for place in (*self._hidden, self.whole, self._new_state, self._manifest):
            place.unlink(missing_ok=True)


def _opened(place: Path, how: str, mode: int | None) -> BinaryIO:
    file: Any = place.open(how)
    if mode is not None:
        with suppress(OSError):
            os.fchmod(file.fileno(), mode)
    opened: BinaryIO = file
    return opened


def _write(place: Path, data: bytes, mode: int | None) -> None:
    """Write a small file anew, and put it on the disk."""
    with _opened(place, "wb", mode) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
