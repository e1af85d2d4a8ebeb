"""What a killed export has left."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Any

import attrs

from b2b_payments.export._manifest import manifest_path


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


def left_by(path: Path) -> Left:
    """Look at what is there of the export to a path."""
    checkpoint = kept_of(path)
    if checkpoint is None:
        there = path.exists() and manifest_path(path).exists()
        return Left(Stage.AFTER if there else Stage.BEFORE)
    stage = Stage.PUBLISHING if checkpoint["finished"] else Stage.MIDWAY
    return Left(stage, checkpoint["account"]["rows"])


def kept_of(path: Path) -> Any:
    """Give the last checkpoint in the log of an export, None where there is none."""
    folder = path.with_name(f".{path.name}.export")
    for segment in sorted(folder.glob("[0-9]" * 8), reverse=True):
        try:
            with segment.open("rb") as file:
                checkpoint = json.loads(file.readline())["checkpoint"]
        except (FileNotFoundError, KeyError):
            continue
        return checkpoint
    return None
