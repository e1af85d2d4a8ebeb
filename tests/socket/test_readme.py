"""What the README says runs, word for word but for the address of the store."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from b2b_payments._cli.connection import Connection
from b2b_payments._cli.stores.file import read_stores
from b2b_payments.sandbox import Sandbox

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_two_commands_stand_in_blocks_of_their_own() -> None:
    """Under "Run it" and "Test it" stands one command each."""
    run = re.search(r"## Run it\n.*?```sh\n(.*?)\n```", README, flags=re.DOTALL)
    test = re.search(r"## Test it\n.*?```sh\n(.*?)\n```", README, flags=re.DOTALL)
    assert run is not None
    assert test is not None
    assert (
        run[1] == "pip install uv && uv run --extra cli b2b-payments export --sandbox --output payments.jsonl"
    )
    assert test[1] == "pip install uv && uv run pytest"


def test_every_figure_is_there() -> None:
    """The measured tables are filled in, and each is made by one command."""
    for name in ("walk", "faults", "quota"):
        assert f"`uv run python -m benchmarks.{name}`" in README
    assert "MEASURED" not in README


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
async def test_an_example_runs(
    code: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each example runs, against a sandbox where it wants a store."""
    monkeypatch.chdir(tmp_path)
    async with Sandbox(payments=300, channels=(1, 2, 3), seed=7) as sandbox:
        here = f'StoreAuth(store_hash="{sandbox.headers["X-Store-Hash"]}", '
        here += f'access_token="{sandbox.headers["X-Auth-Token"]}"), base_url="{sandbox.base_url}"'
        adapted = code.replace('StoreAuth(store_hash="abc123", access_token="token")', here)
        names: dict[str, Any] = {}
        exec(compile(adapted.replace("asyncio.run(main())", ""), "README.md", "exec"), names)  # noqa: S102
        for name in ("main", "try_it", "nightly", "every_night"):
            if name in names:
                await names[name]()
                assert capsys.readouterr().out


def test_the_file_of_stores_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of a file of stores is one."""
    (example,) = re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL)
    path = tmp_path / "stores.toml"
    path.write_text(example, encoding="utf-8")
    monkeypatch.setenv("NORTH_TOKEN", "token")
    [store] = read_stores(str(path), Connection(None, None))
    assert (store.name, store.variable) == ("north", "NORTH_TOKEN")
