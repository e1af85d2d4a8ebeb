"""What a killed export has left, read from a copy: the next process is to find it as the kill left it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Any

import attrs
import duckdb

from b2b_payments.export.manifest import manifest_path

DATABASES = ("sqlite", "duckdb")
_STATE = "b2b_payments_export"


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


def left_by(path: Path, format_: str) -> Left:
    """Look at what is there of the export to a path."""
    state = _of_database(path, format_) if format_ in DATABASES else _of_files(path)
    if state is None:
        there = path.exists() and manifest_path(path).exists()
        return Left(Stage.AFTER if there else Stage.BEFORE)
    checkpoint = state["checkpoint"]
    finished = "renames" in state or checkpoint["finished"]
    return Left(Stage.PUBLISHING if finished else Stage.MIDWAY, checkpoint["account"]["rows"])


def _of_files(path: Path) -> Any:
    place = path.with_name(f".{path.name}.checkpoint")
    return json.loads(place.read_bytes()) if place.exists() else None


def _of_database(path: Path, format_: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        for found in path.parent.glob(f"{path.name}*"):
            shutil.copy(found, folder)
        copy = Path(folder, path.name)
        if not copy.exists():
            return None
        connected: Any = sqlite3.connect(copy) if format_ == "sqlite" else duckdb.connect(str(copy))
        with closing(connected) as connection:
            try:
                rows = connection.execute(f"SELECT checkpoint FROM {_STATE}").fetchall()  # noqa: S608
            except (sqlite3.OperationalError, duckdb.CatalogException):
                return None
    return json.loads(rows[0][0]) if rows else None
