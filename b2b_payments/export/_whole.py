"""Small files that are read and put down whole, at a path or in an object store."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from b2b_payments.export._bucket import bucket_and_name, is_url
from b2b_payments.export._file import PathLike, path_of, reading, sync_folder, write_whole, writing


def read_whole(path: PathLike) -> bytes | None:
    """Give what is there, None where nothing is. Raises ExportError."""
    with suppress(FileNotFoundError), reading(path):
        if is_url(path):
            bucket, name = bucket_and_name(os.fspath(path))
            return bucket.get(name)[0]
        return Path(path_of(path)).read_bytes()
    return None


def put_whole(path: PathLike, data: bytes | None) -> None:
    """Put a file down, whatever is there; None removes that. Raises ExportError."""
    with writing(path):
        if is_url(path):
            bucket, name = bucket_and_name(os.fspath(path))
            if data is None:
                bucket.remove([name])
            else:
                bucket.replace(name, data)
        elif data is None:
            Path(path).unlink(missing_ok=True)
        else:
            write_whole(Path(path), data)
            sync_folder(Path(path).parent)
