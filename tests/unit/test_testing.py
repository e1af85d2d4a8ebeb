"""What the package offers for other projects' tests: made payments, and fixtures."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest
from aioresponses import aioresponses

from b2b_payments import LineItem, Money, Payment, PaymentsClient, blocking, from_wire, to_wire
from b2b_payments.sandbox import Fault, Sandbox
from b2b_payments.testing import make_payment

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
TESTS, OWN_SANDBOX = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
COUNT = """
async def test_count(payments_client):
    assert await payments_client.payments.list().count() == 5
"""


def test_made_payment_is_complete() -> None:
    """Without arguments it is a payment that the service could have sent, and always the same."""
    payment = make_payment()
    assert from_wire(Payment, to_wire(payment)) == payment == make_payment()
    assert payment.line_items[0].amount == payment.total == Money("USD", Decimal(20))


def test_omitted_fields_are_derived() -> None:
    """Line items have the payment's id and total, a total is their sum, and an update is not earlier."""
    ten = Money("EUR", Decimal("10.10"))
    payment = make_payment(id=7, total=ten, customer_id="1")
    assert (payment.line_items[0].payment_id, payment.line_items[0].amount) == (7, ten)
    assert payment.payer_customer_id == "1"
    lines = [LineItem(amount=ten), LineItem(amount=ten), LineItem()]
    assert make_payment(line_items=lines).total == Money("EUR", Decimal("20.20"))
    later = datetime(2026, 1, 1, tzinfo=UTC)
    assert make_payment(created_at=later).updated_at == later
    assert make_payment(updated_at=later).created_at < later


def test_unknown_field_is_refused() -> None:
    """A field that payments do not have is a mistake in the test."""
    with pytest.raises(TypeError, match="statuss"):
        make_payment(statuss=3)


async def test_fixtures_run_in_the_tests_loop(
    payments_sandbox: Sandbox, payments_client: PaymentsClient
) -> None:
    """An async test gets an async client; sandbox and client can be awaited from it."""
    payments_sandbox.order(Fault.ERROR_503, times=3)
    assert (await payments_client.payments.get(7)).id == 7
    await payments_sandbox.pause_listening()
    await payments_sandbox.resume_listening()
    assert await payments_client.payments.list().count() == 1000


def test_other_tests_get_a_blocking_client(
    payments_sandbox: Sandbox, payments_client: blocking.PaymentsClient
) -> None:
    """A test that is not async gets a client that needs no await."""
    assert sum(1 for _ in payments_client.payments.list()) == 1000
    payments_client.payments.delete(7)
    assert 7 not in payments_sandbox.store


async def test_network_can_be_mocked(payments_aioresponses: aioresponses) -> None:
    """With the installed aiohttp, answers of any size can be mocked."""
    payments_aioresponses.get("https://one.example/", body=b"0123456789" * 20_000)
    async with aiohttp.ClientSession() as session, session.get("https://one.example/") as response:
        assert len(await response.read()) == 200_000


PROJECTS: dict[str, tuple[str, list[str]]] = {
    "pytest-asyncio, auto mode, session loop; and the page in docs": (
        """
        asyncio_mode = auto
        asyncio_default_test_loop_scope = session
        asyncio_default_fixture_loop_scope = session
        """,
        [TESTS, OWN_SANDBOX + COUNT],
    ),
    "pytest-asyncio, strict mode, and anyio beside it": (
        """
        asyncio_mode = strict
        asyncio_default_fixture_loop_scope = function
        """,
        [
            """
            import pytest

            class TestOne:
                @pytest.mark.asyncio(loop_scope="class")
                async def test_one(self, payments_client, payments_sandbox):
                    payments_sandbox.store.delete(1)
                    assert await payments_client.payments.list().count() == 999

            @pytest.mark.asyncio
            @pytest.mark.parametrize("number", [1, 2])
            async def test_two(payments_client, number):
                assert (await payments_client.payments.get(number)).id == number
            """,
            """
            import pytest

            @pytest.fixture
            def anyio_backend():
                return "asyncio"

            @pytest.mark.anyio
            async def test_one(payments_client, payments_sandbox):
                assert (await payments_client.payments.get(1)).id == 1
                assert payments_sandbox.request_count == 1
            """,
        ],
    ),
}


WITHOUT_PLUGINS = f"""
{OWN_SANDBOX}

def test_one(payments_client):
    assert payments_client.payments.list().count() == 5

async def test_two(payments_client):
    pass
"""


def run_pytest(folder: Path, settings: str, tests: list[str]) -> tuple[int, str]:
    """Run tests in a folder as its users do; return pytest's exit code and output."""
    ini = f"[pytest]\nfilterwarnings = error\n{textwrap.dedent(settings)}\n"
    (folder / "pytest.ini").write_text(ini, encoding="utf-8")
    for number, one in enumerate(tests):
        (folder / f"test_{number}.py").write_text(textwrap.dedent(one), encoding="utf-8")
    # Without what these tests do not need: hypothesis alone takes two seconds to load.
    without = [
        word for name in ("cacheprovider", "xdist", "hypothesispytest") for word in ("-p", f"no:{name}")
    ]
    command = [sys.executable, "-m", "pytest", "-q", *without]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "tests"), PROJECTS.values(), ids=PROJECTS)
def test_other_project_has_the_fixtures(tmp_path: Path, settings: str, tests: list[str]) -> None:
    """In another project, with any plugin for async tests, the fixtures exist and work."""
    code, said = run_pytest(tmp_path, settings, tests)
    assert code == 0, said


@pytest.mark.slow
def test_project_without_plugins(tmp_path: Path) -> None:
    """Without a plugin, async tests get an error; others have the fixtures, or their own sandbox."""
    code, said = run_pytest(tmp_path, "addopts = -p no:asyncio -p no:anyio", [WITHOUT_PLUGINS])
    assert code == 1
    assert "payments_client need pytest-asyncio, with asyncio_mode = auto or @pytest.mark.asyncio" in said
    assert "1 passed, 1 error" in said


def test_plugin_is_light() -> None:
    """Loading the plugin, as every pytest run does, imports neither aiohttp nor the models."""
    script = (
        "import sys, pytest; before = {*sys.modules}; import b2b_payments._pytest_plugin; print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    names = loaded.stdout.split()
    assert not {"aiohttp", "cattrs", "aioresponses", "b2b_payments._models"} & set(names)
