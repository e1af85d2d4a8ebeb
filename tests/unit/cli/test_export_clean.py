"""`export --clean`, and `verify` and `report` of exports in an object store."""

from __future__ import annotations

from pathlib import Path
from secrets import token_hex

import pytest

from b2b_payments.export import sink_for
from tests.support.exporting import exported, written
from tests.support.program import invoke, sentence


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Return the URL of a folder in this process's memory; temporary files go to tmp_path."""
    monkeypatch.setattr("b2b_payments.export._location.gettempdir", lambda: str(tmp_path))
    return f"memory://{token_hex(4)}/out"


def test_clean_keeps_published_exports(folder: str) -> None:
    """Leftovers are removed and counted; a published export stays."""
    url = f"{folder}/p.jsonl"
    exported(sink_for(url))
    written(sink_for(url))
    done = invoke(None, "export", "--clean", "--output", url)
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"{url}: leftover files removed: 4.\n"
    for place in (url, f"{url}/", folder, folder.removesuffix("/out")):
        verified = invoke(None, "verify", place)
        assert verified.stdout.startswith(f"{url}"), verified.stderr
        assert "as exported, complete: 12 payments" in verified.stdout
    assert invoke(None, "report", url).stdout.startswith("12 payments.\nExport ended at ")
    assert "q.jsonl has no manifest" in sentence(invoke(None, "report", f"{folder}/q.jsonl"), 1)


def test_clean_stores(folder: str, tmp_path: Path) -> None:
    """With --stores, the leftovers of each store are removed, without any token."""
    path = tmp_path / "stores.toml"
    tables = [
        f'[[stores]]\nname = "{name}"\nstore_hash = "{name}"\naccess_token_env = "NO_TOKEN"\n'
        for name in "abc"
    ]
    path.write_text("".join(tables))
    for name in "ab":
        written(sink_for(f"{folder}/{name}.csv"))
    stores = ("--stores", str(path), "--output", folder, "--format", "csv")
    assert "removed: 8." in invoke(None, "export", "--clean", *stores).stderr
    assert "removed: 0." in invoke(None, "export", "--clean", *stores).stderr


@pytest.mark.parametrize("more", [("--output", "-"), ("--output", "p.jsonl", "--resume")])
def test_wrong_usage(more: tuple[str, ...]) -> None:
    """--clean is refused with options of an export."""
    assert "--clean exports nothing" in sentence(invoke(None, "export", "--clean", *more), 2)


def test_missing_export_and_unknown_scheme(folder: str) -> None:
    """A folder without an export and an unknown kind of object store are errors."""
    assert "contains no export" in sentence(invoke(None, "verify", folder), 1)
    message = sentence(invoke(None, "export", "--sandbox", "--output", "ftp://host/p.jsonl"), 2)
    assert "ftp:// is not an object store" in message
