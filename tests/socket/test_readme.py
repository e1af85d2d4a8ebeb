"""What the README and the pages in docs/ say runs, word for word but for the address of the store."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from anyio.from_thread import start_blocking_portal

import b2b_payments
from b2b_payments import PaymentsClient
from b2b_payments.export import read_stores
from b2b_payments.sandbox import Sandbox, SeenRequest
from tests.support.program import environment, invoke

ROOT = Path(__file__).parents[2]
PAGES = {path: path.read_text(encoding="utf-8") for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))}
README = PAGES[ROOT / "README.md"]
RUN_ELSEWHERE = {
    "testing.md-0": "tests/unit/test_testing.py",
    "testing.md-1": "tests/unit/test_testing.py",
    "changes.md-1": "tests/socket/test_taskiq_worker.py",
    "recipes.md-0": "tests/socket/test_recipes.py",
    "recipes.md-1": "tests/socket/test_recipes.py",
    "recipes.md-2": "tests/socket/test_celery_worker.py",
}
"""Python that wants a server, a worker or pytest around it, and who gives it that."""


def blocks(path: Path, language: str) -> list[str]:
    """Return what stands in a page's blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[path], flags=re.DOTALL | re.MULTILINE)


PYTHON = [
    pytest.param(code, id=name)
    for path in PAGES
    for number, code in enumerate(blocks(path, "python"))
    if (name := f"{path.name}-{number}") not in RUN_ELSEWHERE
]
SHELL = [
    pytest.param(path, line, id=f"{path.name}: {line.partition('#')[0].strip()}")
    for path in PAGES
    for block in blocks(path, "sh")
    for line in block.splitlines()
    if path.name != "tutorial.md"  # its commands follow from one another
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


def test_every_block_is_run() -> None:
    """There is no block of a language that nothing here runs, and what is run elsewhere is named there."""
    languages = Counter(
        language for page in PAGES.values() for language in re.findall(r"(?m)^```(\w+)$", page)
    )
    assert languages.keys() == {"python", "sh", "toml", "sql"}
    assert languages["python"] == len(PYTHON) + len(RUN_ELSEWHERE)
    for name, test in RUN_ELSEWHERE.items():
        page = name.partition("-")[0]
        assert page in (ROOT / test).read_text(encoding="utf-8"), name
    assert "exports.md" in (ROOT / "tests/socket/sync/test_postgres.py").read_text(encoding="utf-8")


def invoices(seen: SeenRequest) -> web.Response | None:
    """Answer for an endpoint that the sandbox does not have."""
    if not seen.path.endswith("/ip/invoices"):
        return None
    return web.json_response({"code": 200, "data": [{"id": 13}], "meta": {"message": "Success"}})


@pytest.mark.parametrize("code", PYTHON)
async def test_an_example_runs(
    code: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each example runs, its functions too, against a sandbox where it wants a store."""
    monkeypatch.chdir(tmp_path)
    async with Sandbox(payments=300, channels=(1, 2, 3), seed=7) as sandbox:
        sandbox.answer_with(invoices)
        for name, value in environment(sandbox).items():
            if value is not None:
                monkeypatch.setenv(name, value)
        for name in ("NORTH_TOKEN", "SOUTH_TOKEN"):
            monkeypatch.setenv(name, sandbox.headers["X-Auth-Token"])
        adapted = adapted_to(sandbox, code)
        names: dict[str, Any] = {}
        awaited = re.sub(r"(?m)^asyncio\.run\(\w+\(\)\)$", "", adapted)
        # In a thread: some do without await, and the sandbox is served from here.
        compiled = compile(awaited, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if (cell := await asyncio.to_thread(eval, compiled, names)) is not None:  # noqa: S307
            await cell
        prints = "print(" in code
        async with PaymentsClient.from_env() as client:
            given = {"client": client, "payment_id": 7}
            for function in functions_in(names):
                wanted = inspect.signature(function).parameters
                if wanted.keys() <= given.keys():
                    await function(**{name: given[name] for name in wanted})
                else:
                    assert f"{function.__name__}(" in code.replace(f"def {function.__name__}(", "")
        assert bool(capsys.readouterr().out) == prints


def adapted_to(sandbox: Sandbox, code: str) -> str:
    """Let an example ask a sandbox; where it has two stores, by another of its names."""
    store, token, url = sandbox.auth.store_hash, sandbox.headers["X-Auth-Token"], sandbox.base_url
    elsewhere = url.replace("127.0.0.1", "localhost")
    assert elsewhere != url
    for old, new in (
        (
            'StoreAuth(store_hash="abc123", access_token="token")',
            f'StoreAuth(store_hash="{store}", access_token="{token}"), base_url="{url}"',
        ),
        (
            'StoreAuth("abc123", TokenFromEnv("NORTH_TOKEN"))',
            f'StoreAuth("{store}", TokenFromEnv("NORTH_TOKEN")), base_url="{url}"',
        ),
        (
            'StoreAuth("def456", TokenFromEnv("SOUTH_TOKEN"))',
            f'StoreAuth("{store}", TokenFromEnv("SOUTH_TOKEN")), base_url="{elsewhere}"',
        ),
    ):
        code = code.replace(old, new)
    return code


def functions_in(names: dict[str, Any]) -> list[Any]:
    """Return the coroutine functions of an example, what shuts down at the end."""
    found = [one for one in names.values() if inspect.iscoroutinefunction(one) and one.__globals__ is names]
    return sorted(found, key=lambda one: str(one.__name__) == "shut_down")


@pytest.mark.parametrize(("path", "line"), SHELL)
def test_a_command_is_as_it_says(
    path: Path, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands of this program run; of others, what they name of this repository is there."""
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line.removeprefix("*/15 * * * *"), comments=True)
    if words[0] == "b2b-payments":
        with (
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(Sandbox(payments=300, seed=7)) as sandbox,
        ):
            assert exit_code_of(sandbox, words, tmp_path) == 0
    elif words[0] == "eval":
        beside = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        script = f"{line}\ncomplete -p b2b-payments"
        done = subprocess.run(
            ["bash", "-c", script],
            env={**os.environ, "PATH": beside},
            capture_output=True,
            text=True,
            check=True,
        )
        assert "b2b-payments" in done.stdout
    else:
        assert words[0] in {"pip", "uv", "python", "pytest", ".ci/lower-bounds"}, line
        there(words)


def exit_code_of(sandbox: Sandbox, words: list[str], folder: Path) -> int:
    """Run a command, which may be followed by what is done where it fails, and give its exit code."""
    command = words[1 : words.index("||") if "||" in words else None]
    return invoke(sandbox, *(word.replace("/var/lib/payments", str(folder)) for word in command)).exit_code


def there(words: list[str]) -> None:
    """Assert that the files, extras and groups that a command names are there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras, groups = project["project"]["optional-dependencies"], project["dependency-groups"]
    for option, word in pairwise(words):
        assert option != "--extra" or word in extras
        assert option != "--group" or word in groups
    for word in words:
        if word.startswith(("tests/", ".ci/")) or word == "docs":
            assert (ROOT / word).exists(), word
        if found := re.fullmatch(r"b2b-payments\[(.*)\]", word):
            assert {*found[1].split(",")} <= extras.keys()


def test_the_tutorial_goes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tutorial's commands are carried out, one after the other, on one sandbox."""
    monkeypatch.chdir(tmp_path)
    commands = [line for block in blocks(ROOT / "docs" / "tutorial.md", "sh") for line in block.splitlines()]
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
