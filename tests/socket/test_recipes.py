"""The recipes of docs/recipes.md and the notebook, as those who copy them run them."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import matplotlib as mpl
import pytest

from b2b_payments.sandbox import Rules, Sandbox
from tests.support.program import environment, whole_environment

DOCS = Path(__file__).parents[2] / "docs"

DJANGO = """
from django.conf import settings
from django.urls import path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"])

import django

django.setup()

import recipe

urlpatterns = [path("payments/<int:payment_id>", recipe.payment_view)]

from concurrent.futures import ThreadPoolExecutor

from django.test import Client

with ThreadPoolExecutor(8) as pool:
    answers = list(pool.map(lambda number: Client().get(f"/payments/{number}"), [*range(1, 40), 999]))
print([answer.status_code for answer in answers[-2:]], answers[6].json()["id"])
"""


def recipe(heading: str) -> str:
    """Return the code under a heading."""
    page = (DOCS / "recipes.md").read_text(encoding="utf-8")
    _, _, section = page.partition(f"\n## {heading}\n")
    found = re.search(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert found is not None
    return found[1]


@asynccontextmanager
async def served(folder: Path, sandbox: Sandbox) -> AsyncIterator[str]:
    """Serve app.py of a folder with two workers of uvicorn, which share a quota, and give its address."""
    command = ["-m", "uvicorn", "app:app", "--workers", "2", "--port", "0"]
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, *command),
        cwd=folder,
        env=whole_environment(sandbox, B2B_PAYMENTS_QUOTA_SHARED=str(folder / "quota")),
        stderr=asyncio.subprocess.PIPE,
    )
    assert server.stderr is not None
    try:
        address, started = "", 0
        while not (address and started == 2):
            line = (await server.stderr.readline()).decode()
            assert line, "the server ended"
            if found := re.search(r"running on (http://\S+)", line):
                address = found[1]
            started += "Application startup complete" in line
        yield address
    finally:
        server.terminate()
        await server.communicate()


@pytest.mark.slow
async def test_fastapi_with_two_workers_keeps_one_quota(tmp_path: Path) -> None:
    """Two workers answer 150 of 170 at once, and 503 to the rest: the service refuses none of them."""
    who = "\n\n@app.middleware('http')\nasync def _(request, call_next):\n    import os\n"
    who += "    answer = await call_next(request)\n    answer.headers['X-Worker'] = str(os.getpid())\n"
    who += "    return answer\n"
    code = recipe("FastAPI, two workers, one quota")
    # On a busy machine, a call may take longer than the recipe allows.
    assert code.count("deadline=5.0") == 1
    (tmp_path / "app.py").write_text(code.replace("5.0", "20.0") + who, encoding="utf-8")
    async with (
        Sandbox(200, rules=Rules(quota_headers=False)) as sandbox,
        served(tmp_path, sandbox) as address,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=8, force_close=True)) as session,
    ):

        async def ask(number: int) -> tuple[int, str, bool, Any]:
            async with session.get(f"{address}/payments/{number}") as answer:
                wait = "Retry-After" in answer.headers
                return answer.status, answer.headers["X-Worker"], wait, await answer.json()

        answers = await asyncio.gather(*map(ask, range(1, 171)))
        refused = [request for request in sandbox.requests if request.status == 429]
    statuses = Counter(status for status, *_ in answers)
    assert statuses == {200: 150, 503: 20}
    assert len({worker for _, worker, *_ in answers}) == 2
    assert all(wait == (status == 503) for status, _, wait, _ in answers)
    assert all(body["id"] for status, *_, body in answers if status == 200)
    assert not refused


@pytest.mark.slow
async def test_a_django_view(tmp_path: Path) -> None:
    """A view answers from several threads, knows what is not there, and its process ends by itself."""
    (tmp_path / "recipe.py").write_text(recipe("Django"), encoding="utf-8")
    (tmp_path / "site_of_one.py").write_text(DJANGO, encoding="utf-8")
    async with Sandbox(100, rules=Rules(quota=False)) as sandbox:
        ended = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "site_of_one.py"],
            cwd=tmp_path,
            env=whole_environment(sandbox),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (ended.stdout, ended.returncode) == ("[200, 404] 7\n", 0), ended.stderr


@pytest.mark.slow
async def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell runs, in order, and the plot shows the exact sums of the store's main currency."""
    mpl.use("Agg")
    notebook = json.loads((DOCS / "notebooks" / "payments.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    names: dict[str, Any] = {}
    async with Sandbox(500, rules=Rules(quota=False)) as sandbox:
        for name, value in environment(sandbox).items():
            if value is not None:
                monkeypatch.setenv(name, value)
        for cell in cells:
            code = compile(cell, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            if inspect.isawaitable(running := eval(code, names)):  # noqa: S307
                await running
        totals = [row["total"] for row in sandbox.store.all_wire()]
    assert names["walk"].report.complete
    shown = sum(bar.get_height() for bar in names["axes"].patches)
    meant = sum(float(total["value"]) for total in totals if total["code"] == names["currency"])
    assert shown == pytest.approx(meant)
    assert len(names["figure"].axes) == 1
    names["plt"].close("all")
