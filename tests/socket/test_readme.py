"""What the README and the pages in docs/ say runs, word for word but for the address of the store."""

from __future__ import annotations

import ast
import asyncio
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

import b2b_payments
from b2b_payments.export import read_stores
from b2b_payments.sandbox import Sandbox
from tests.support.program import environment, invoke

ROOT = Path(__file__).parents[2]
PAGES = {path: path.read_text(encoding="utf-8") for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))}
README = PAGES[ROOT / "README.md"]
PYTHON = [
    pytest.param(code, id=f"{path.name}-{number}")
    for path, page in PAGES.items()
    for number, code in enumerate(re.findall(r"```python\n(?!# \w+\.py\n)(.*?)```", page, flags=re.DOTALL))
]


def test_the_two_commands_stand_in_blocks_of_their_own() -> None:
    """Under "Run it" and "Test it" stands one command each."""
    run = re.search(r"## Run it\n.*?```sh\n(.*?)\n```", README, flags=re.DOTALL)
    test = re.search(r"## Test it\n.*?```sh\n(.*?)\n```", README, flags=re.DOTALL)
    assert run is not None
    assert test is not None
    export = "b2b-payments export --sandbox --output payments.jsonl"
    assert run[1] == f"pip install uv && uv run --no-dev --extra cli {export}"
    assert test[1] == "pip install uv && uv run pytest"


def test_every_figure_has_its_command() -> None:
    """Each row of figures in the README names the command that makes it, which exists."""
    table = README.partition("## Measured")[2].partition("## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    commands = [re.search(r"python -m benchmarks\.(\w+)` \|$", row) for row in rows]
    assert len(rows) >= 5
    for command in commands:
        assert command is not None
        assert (ROOT / "benchmarks" / f"{command[1]}.py").exists() or (
            ROOT / "benchmarks" / command[1]
        ).is_dir()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    """Links to other files of this repository lead to files that are there."""
    for link in re.findall(r"\]\((?!https?://)([^)#]+)", PAGES[path]):
        assert (path.parent / link).exists(), link


def test_the_reference_has_every_name() -> None:
    """Whatever is public stands in the reference, which is made of docstrings."""
    page = PAGES[ROOT / "docs" / "reference.md"]
    named = re.findall(r"(?m)auto(?:class|function):: b2b_payments\.(\w+)$", page)
    assert set(named) == {*b2b_payments.__all__} - {"__version__"}
    modules = {path.stem for path in (ROOT / "b2b_payments").iterdir() if path.stem[0] not in "_."}
    assert {*re.findall(r"(?m)automodule:: b2b_payments\.(\w+)$", page)} == modules - {"cli", "py"}


def test_every_file_that_is_named_is_there() -> None:
    """The map and the checklists name files as they are called now; NAME stands for one to be written."""
    folders = ("b2b_payments", "benchmarks", "docs", "tests")
    files = [f"/{path.relative_to(ROOT)}" for name in folders for path in (ROOT / name).rglob("*.py")]
    for page in (ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md"):
        for name in re.findall(r"`([\w/]+\.py)`", PAGES[page]):
            assert "NAME" in name or any(file.endswith(f"/{name}") for file in files), f"{page.name}: {name}"


@pytest.mark.parametrize("code", PYTHON)
async def test_an_example_runs(
    code: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each example runs, against a sandbox where it wants a store."""
    monkeypatch.chdir(tmp_path)
    async with Sandbox(payments=300, channels=(1, 2, 3), seed=7) as sandbox:
        for name, value in environment(sandbox).items():
            if value is not None:
                monkeypatch.setenv(name, value)
        here = f'StoreAuth(store_hash="{sandbox.headers["X-Store-Hash"]}", '
        here += f'access_token="{sandbox.headers["X-Auth-Token"]}"), base_url="{sandbox.base_url}"'
        adapted = code.replace('StoreAuth(store_hash="abc123", access_token="token")', here)
        names: dict[str, Any] = {}
        awaited = re.sub(r"(?m)^asyncio\.run\(\w+\(\)\)$", "", adapted)
        # In a thread: some do without await, and the sandbox is served from here.
        compiled = compile(awaited, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if (cell := await asyncio.to_thread(eval, compiled, names)) is not None:  # noqa: S307
            await cell
        for name in ("main", "try_it", "nightly", "every_night"):
            if name in names:
                await names[name]()
                assert capsys.readouterr().out


def test_the_tutorial_goes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tutorial's commands are carried out, one after the other, on one sandbox."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```sh\n(.*?)```", PAGES[ROOT / "docs" / "tutorial.md"], flags=re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    assert commands[0].startswith("pip install 'b2b-payments[")
    assert invoke(None, *shlex.split(f"{commands[1]} --help")[1:]).exit_code == 0
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Sandbox(payments=300, seed=7)) as sandbox,
    ):
        results = [invoke(sandbox, *shlex.split(command)[1:]) for command in commands[2:]]
    assert [result.exit_code for result in results] == [0] * len(results)
    assert "1 updated" in results[-1].stderr


def test_the_file_of_stores_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of a file of stores is one."""
    (example,) = re.findall(r"```toml\n(.*?)```", "".join(PAGES.values()), flags=re.DOTALL)
    path = tmp_path / "stores.toml"
    path.write_text(example, encoding="utf-8")
    monkeypatch.setenv("NORTH_TOKEN", "token")
    [store] = read_stores(str(path))
    assert (store.name, store.variable) == ("north", "NORTH_TOKEN")
