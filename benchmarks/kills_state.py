"""What a killed export left behind."""

from __future__ import annotations

import json
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Any

import attrs

from b2b_payments.export._bucket import bucket_and_name
from b2b_payments.export._manifest import manifest_bytes, manifest_path, read_manifest


class Stage(StrEnum):
    """How far an export had come."""

    BEFORE = "before the first commit"
    MIDWAY = "after a commit"
    PUBLISHING = "while publishing"
    AFTER = "after the end"


@attrs.frozen
class Left:
    """How far an export had come, and the rows that it had committed."""

    stage: Stage
    rows: int = 0


class Output:
    """The target of an export: a path."""

    poll = 0.001  # seconds between two checks

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    def is_there(self) -> bool:
        """Whether a finished export exists."""
        return self.path.exists() and manifest_path(self.path).exists()

    def kept(self) -> Any:
        """Return the last checkpoint in the log, or None."""
        folder = self.path.with_name(f".{self.path.name}.export")
        for segment in sorted(folder.glob("[0-9]" * 8), reverse=True):
            try:
                with segment.open("rb") as file:
                    return json.loads(file.readline())["checkpoint"]
            except (FileNotFoundError, KeyError):
                continue
        return None

    def data(self) -> Path:
        """Return the path of the export."""
        return self.path

    def left_behind(self) -> list[str]:
        """Return what exists besides the export."""
        return [one.name for one in self.path.parent.iterdir() if one.name.startswith(".")]


class S3Output(Output):
    """The target of an export: an object in a bucket, whose data is downloaded to a path."""

    poll = 0.02

    def __init__(self, bucket: str, path: Path) -> None:
        super().__init__(path)
        self.name = f"{bucket}/{path.parent.name}/{path.name}"
        self._bucket, self._object = bucket_and_name(self.name)

    def is_there(self) -> bool:
        """Whether a finished export exists."""
        return manifest_bytes(self.name) is not None

    def kept(self) -> Any:
        """Return the last checkpoint in the log of the current export, or None."""
        number = read_manifest(self.name).number + 1 if self.is_there() else 1
        log = f"{self._object}/_log"
        for segment in sorted(self._bucket.sizes(log), reverse=True):
            if not segment.startswith(f"{number:08}."):
                continue
            with suppress(FileNotFoundError):
                head, _, _ = self._bucket.get(f"{log}/{segment}")[0].partition(b"\n")
                checkpoint = json.loads(head).get("checkpoint")
                if checkpoint is not None:
                    return checkpoint
        return None

    def data(self) -> Path:
        """Download the export."""
        for file in read_manifest(self.name).files:
            name = f"{self._object.rpartition('/')[0]}/{file}"
            self._bucket.download(name, self.path.with_name(Path(file).name))
        return self.path

    def left_behind(self) -> list[str]:
        """Return what exists besides the export and the previous one."""
        manifest = read_manifest(self.name)
        kept = {f"{manifest.number - 1:08}", f"{manifest.number:08}"}
        named = {file.rpartition("/")[0].rpartition("/")[2] for file in manifest.files}
        found = self._bucket.sizes(self._object)
        return [
            one
            for one in found
            if one[:8] not in kept
            or (one.startswith(f"{manifest.number:08}") and one.split("/")[0] not in named)
        ]

    def remove(self) -> None:
        """Remove everything, because the server keeps it in memory."""
        names = [f"{self._object}/{one}" for one in self._bucket.sizes(self._object)]
        self._bucket.remove([*names, f"{self._object}.manifest.json"])


def left_by(output: Output) -> Left:
    """Return how far the export to `output` has come."""
    checkpoint = output.kept()
    if checkpoint is None:
        return Left(Stage.AFTER if output.is_there() else Stage.BEFORE)
    stage = Stage.PUBLISHING if checkpoint["finished"] else Stage.MIDWAY
    return Left(stage, checkpoint["account"]["rows"])
