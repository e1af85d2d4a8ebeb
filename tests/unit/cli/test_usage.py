"""Messages of commands that cannot start: wrong usage, missing credentials, bad files; and help."""

from __future__ import annotations

import importlib.util
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from b2b_payments._cli.program import Program, program
from b2b_payments._version import __version__
from b2b_payments.cli import main
from tests.support.program import invoke, sentence

_OFFLINE = ("create-offline", "--customer-id", "1", "--currency", "USD", "--line", "13=20.00")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("export",), "Missing option '--output'"),
        (("export", "--output", "payments.txt"), "The format of 'payments.txt' is unknown: pass a format"),
        (("export", "--output", "payments"), "The format of 'payments' is unknown"),
        (("export", "--output", "-", "--format", "duckdb"), "Standard output is for jsonl only, not duckdb"),
        (("export", "--output", "p.jsonl", "--format", "xml"), "'xml' is not one of 'jsonl', 'csv'"),
        (("export", "--output", "-", "--resume"), "standard output cannot be resumed: give --output a file"),
        (("export", "--output", "."), ". cannot be written: it is a folder; name a file in it."),
        (("doctor", "--save", "nowhere/doctor.json"), "nowhere/doctor.json cannot be written: "),
        (("follow", "--state", "nowhere/state.json"), "nowhere/state.json cannot be written: "),
        (("report", "x.csv", "--html", "nowhere/x.html"), "nowhere/x.html cannot be written: "),
        (
            ("export", "--output", "a.jsonl", "--format", "csv"),
            "'a.jsonl' has the extension of jsonl, but the format given is csv: change one of the two.",
        ),
        (
            ("export", "--output", "a.DB", "--format", "duckdb"),
            "'a.DB' has the extension of sqlite, but the format given is duckdb",
        ),
        (("verify",), "Missing argument 'FILE...'"),
        (
            ("export", "--output", "p.jsonl", "--spreadsheet-safe"),
            "--spreadsheet-safe is only for csv, not jsonl: leave it out.",
        ),
        (
            ("export", "--stores", "s.toml", "--output", "x", "--spreadsheet-safe"),
            "--spreadsheet-safe is only for a single store: leave --stores out.",
        ),
        (
            ("export", "--output", "-", "--report", "json"),
            "--report is printed to standard output: give --output a file.",
        ),
        (
            ("export", "--stores", "s.toml", "--output", "x", "--workers", "2"),
            "--workers is only for --dask local.",
        ),
        (
            ("export", "--stores", "s.toml", "--output", "x", "--shard", "3/2"),
            "'3/2' is not a shard: give part/parts, as in 2/4.",
        ),
        (("report", "x.csv", "--schema", "a"), "--schema is only for copies in PostgreSQL: leave it out."),
        (("export", "--output", "p.jsonl", "--sandbox", "--base-url", "https://x"), "leave --base-url out"),
        (("sync", "--to", "p.duckdb", "--sandbox", "--base-url", "https://x"), "leave --base-url out"),
        (("list", "--sandbox", "--base-url", "https://x"), "leave --base-url out"),
        (
            ("sync", "--to", "p.csv"),
            "The database of p.csv is unknown: use one of the extensions .duckdb, .sqlite",
        ),
        (
            ("export", "--stores", "s.toml", "--output", "x", "--quota", "none"),
            "--quota none is only for a single store: leave --stores out.",
        ),
        (
            ("sync", "--stores", "s.toml", "--to", "x", "--quota", "none"),
            "--quota none is only for a single store: leave --stores out.",
        ),
        (("sync", "--stores", "s.toml", "--to", "x", "--dask", "local"), "No such option '--dask'"),
        (
            ("export", "--output", "p.jsonl", "--output", "q.jsonl"),
            "--output was given 2 times; give it once",
        ),
        (
            ("export", "--output", "p.jsonl", "--quota", "fast"),
            "give requests and seconds, both more than 0, as in 150/60",
        ),
        (("export", "--output", "p.jsonl", "--quota", "0/60"), "'0/60' is not a quota"),
        (("export", "--output", "p.jsonl", "--page-size", "0"), "give a whole number, 1 or more, not '0'."),
        (("export", "--output", "p.jsonl", "--channel", "one"), "give a whole number, 1 or more, not 'one'."),
        (("export", "--output", "p.jsonl", "--nonsense"), "'--nonsense'"),
        (("list", "--status", "frozen"), "'frozen' is none of incomplete (0), awaiting-processing (1)"),
        (("list", "--status", "5"), "'5' is none of incomplete (0)"),
        (("list", "--search-by", "id"), "needs --q"),
        (("get",), "Missing argument 'ID'"),
        (("get", "7", "--outage", "0"), "No such option '--outage'"),
        (("doctor", "--outage", "0"), "No such option '--outage'"),
        (
            ("create-offline", "--line", "0=2"),
            "'0=2' is not an invoice's id and amount: give both, as in 13=20.00.",
        ),
        (("get", "0"), "give a whole number, 1 or more, not '0'."),
        (("get", "9" * 39), "give a whole number, 1 or more, not '999"),
        (("list", "--q", " "), "'--q': it is empty: fill it in, or leave it out."),
        (("list", "--customer-name", ""), "'--customer-name': it is empty"),
        (("list", "--base-url", "http://b2b.test"), "'--base-url': it is not https, so the credential"),
        (
            ("list", "--base-url", "b2b.test"),
            "'--base-url': it is not a complete URL; use one such as https:",
        ),
        (("list", "--base-url", "https://me@b2b.test"), "'--base-url': it holds a user name or password"),
        (("list", "--outage", "-1"), "give a number from 0 to 86,400, not '-1'."),
        (("verify", ""), "it is empty"),
        (("get", "1", "2"), "Got unexpected extra argument (2)"),
        (("get", "1", "--base-url", "https://a", "--base-url", "https://b"), "--base-url was given 2 times"),
        (("perform", "7", "fly"), "'fly' is none of apply-to-invoices (0)"),
        (("set-status", "7", "frozen"), "'frozen' is none of incomplete (0), awaiting-processing (1)"),
        (("set-status", "7", "5"), "'5' is none of incomplete (0)"),
        (("delete", "7"), "There is no terminal to ask for confirmation: give --yes to delete payment 7."),
        (("delete", "7", "--yes", "--yes"), "--yes was given 2 times"),
        (
            ("create-offline", "--currency", "USD"),
            "Give --customer-id and --line, or the whole payment with --json.",
        ),
        (
            ("create-offline", "--line", "13"),
            "'13' is not an invoice's id and amount: give both, as in 13=20.00.",
        ),
        (("create-offline", "--line", "13=much"), "'13=much' has no valid amount"),
        (("create-offline", "--detail", "memo"), "'memo' is not a name and a text: give both"),
        ((*_OFFLINE, "--currency", "EUR"), "--currency was given 2 times"),
        ((*_OFFLINE[:4], "dollars", *_OFFLINE[5:]), "--currency 'dollars' is not a currency"),
        ((*_OFFLINE, "--line", "13=1"), "--line has the invoice 13 more than once"),
        ((*_OFFLINE, "--detail", "a=1", "--detail", "a=2"), "--detail has the name a more than once"),
        ((*_OFFLINE, "--external-id", ""), "'--external-id': it is empty"),
        ((*_OFFLINE, "--status", "0"), "'0' is none of awaiting-processing (1), processing (2)"),
        ((*_OFFLINE, "--json", "-"), "--json contains the whole payment: leave the other options out."),
        (("create-offline", "--json", "/nowhere/payment.json"), "No such file or directory"),
        ((*_OFFLINE, "--unless-exists"), "by its external id: give --external-id."),
        (
            (*_OFFLINE, "--unless-exists", "--external-id", "A-1", "--yes"),
            "--unless-exists never asks for confirmation: leave --yes out.",
        ),
        (
            (*_OFFLINE, "--unless-exists", "--unless-exists"),
            "--unless-exists was given 2 times; give it once",
        ),
        (("sandbox", "--port", "70000"), "give a whole number from 0 to 65,535, not '70000'."),
        (("sandbox", "--seed", "x"), "give a whole number, not 'x'."),
        (("fly",), "No such command 'fly'"),
    ],
)
def test_wrong_usage(args: tuple[str, ...], says: str) -> None:
    """Wrong usage is refused in one sentence that names it, with exit code 2, before any request."""
    result = invoke(None, *args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert says in result.stderr.splitlines()[-1]
    assert result.stderr.splitlines()[-1].startswith("Error: ")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("{", "--json -: it is not JSON: Input data was truncated."),
        ('{"details": ' + "[" * 200_000, "it is nested too deeply."),
        ("[]", "it is not a JSON object such as {...}."),
        ("", "--json -: the file is empty."),
        (b'{"customerId": "\xff"}', "it is not UTF-8; save it as UTF-8."),
        ("{}", "customerId, currency and lineItems are missing."),
        ('{"customerId": "1", "currency": "USD", "lineItems": null}', "lineItems is missing"),
        (
            '{"customerId": "1", "currency": "USD", "lineItems": [], "x": 1}',
            "'x' is unknown; the known fields are customerId",
        ),
        (
            '{"customerId": "1", "currency": "USD", "lineItems": 5}',
            'lineItems must be a list such as [{"invoiceId": 13, "amount": "20.00"}].',
        ),
        (
            '{"customerId": "1", "currency": "USD", "lineItems": [{"invoiceId": "x", "amount": "1"}]}',
            "invoiceId must be a whole number, not 'x'.",
        ),
        (
            '{"customerId": 1.5, "currency": "USD", "lineItems": [{"invoiceId": 1, "amount": "1"}]}',
            "customerId",
        ),
        ('{"customerId": "1", "currency": "USD", "lineItems": [5]}', 'a list such as [{"invoiceId": 13'),
        (
            '{"customerId": "1", "currency": "USD", "lineItems": [{"invoiceId": 1, "amount": "1", "y": 1}]}',
            "'y' is unknown; the known fields are invoiceId, amount",
        ),
    ],
)
def test_wrong_json(body: str | bytes, says: str) -> None:
    """A body that is not an offline payment is refused in one sentence that says why."""
    assert says in sentence(invoke(None, "create-offline", "--json", "-", stdin=body), 2)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that opens and cannot be read")
def test_unreadable_body() -> None:
    """A file that opens but cannot be read is refused in one sentence."""
    message = sentence(invoke(None, "create-offline", "--json", "/proc/self/mem"), 2)
    assert message == "Error: --json /proc/self/mem: it could not be read: Input/output error."


def test_no_credential() -> None:
    """Without a credential, the message names the variables to set."""
    text = sentence(invoke(None, "channels"), 2)
    assert (
        "set B2B_PAYMENTS_STORE_HASH and B2B_PAYMENTS_ACCESS_TOKEN (or B2B_PAYMENTS_AUTH_TOKEN alone)" in text
    )


def test_no_https() -> None:
    """A credential is not sent unencrypted, and the message names the variable that the address is from."""
    address = {"B2B_PAYMENTS_BASE_URL": "http://b2b.invalid/api", "B2B_PAYMENTS_AUTH_TOKEN": "token"}
    text = sentence(invoke(None, "channels", variables=address), 2)
    assert text.startswith(
        "Error: B2B_PAYMENTS_BASE_URL: it is not https, so the credential would be sent unencrypted"
    )


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"STORE_HASH": "/x/", "ACCESS_TOKEN": "t"}, "B2B_PAYMENTS_STORE_HASH is not a store hash"),
        ({"STORE_HASH": "x", "ACCESS_TOKEN": "a b"}, "B2B_PAYMENTS_ACCESS_TOKEN contains a space"),
        ({"AUTH_TOKEN": "a\n"}, "B2B_PAYMENTS_AUTH_TOKEN starts or ends with white space"),
    ],
)
def test_invalid_variable_is_named(variables: dict[str, str], says: str) -> None:
    """A mistake in the environment is reported by the variable's name, not by the Python parameter's."""
    named = {f"B2B_PAYMENTS_{name}": value for name, value in variables.items()}
    assert sentence(invoke(None, "channels", variables=named), 2).startswith(f"Error: {says}")


@pytest.mark.parametrize("name", ["", "nowhere/payments.jsonl"])
def test_unwritable_path(tmp_path: Path, name: str) -> None:
    """An unwritable path is reported first, before the missing credential."""
    result = invoke(None, "export", "--format", "jsonl", "--output", str(tmp_path / name))
    assert "cannot be written" in sentence(result, 2)


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_version(option: str) -> None:
    """Both options print the version."""
    assert CliRunner().invoke(program, [option]).stdout.endswith(f", version {__version__}\n")


def test_help_imports_little() -> None:
    """--help imports click, but nothing that is needed to talk to the service."""
    program = (
        "import sys; sys.argv = ['b2b-payments', '--help']; from b2b_payments.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'aiohttp', 'anyio', 'asyncio', 'attrs', 'msgspec'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "[]")


def test_help_lists_every_command() -> None:
    """The program's help names all commands, the main one first."""
    result = CliRunner().invoke(program, ["--help"])
    assert result.exit_code == 0
    listed = [line.split()[0] for line in result.stdout.partition("Commands:\n")[2].splitlines()]
    assert listed[0] == "export"
    assert sorted(listed) == sorted(
        [
            "export",
            "doctor",
            "report",
            "list",
            "get",
            "operations",
            "perform",
            "set-status",
            "transactions",
            "delete",
            "create-offline",
            "update-offline",
            "channels",
            "channel",
            "sandbox",
            "verify",
            "sync",
            "follow",
        ]
    )


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_missing_extra(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Without the extra, one sentence says how to install it."""
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == f"Error: {missing} is not installed: pip install 'b2b-payments[cli]'"


def test_interrupted_before_the_start() -> None:
    """Ctrl-C while a command is still being loaded ends with a sentence, too."""

    @click.command()
    def load() -> None:
        raise KeyboardInterrupt

    result = CliRunner().invoke(Program(commands={"load": load}), ["load"])
    assert (result.exit_code, result.stderr) == (130, "Stopped by Ctrl-C.\n")


@pytest.mark.parametrize("module", ["b2b_payments.__main__", "b2b_payments.cli"])
def test_python_m(module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m` works with the package, and still with `b2b_payments.cli`."""
    monkeypatch.setattr(sys, "argv", ["ignored", "--help"])
    # By path, since pytest imports modules of a package that has a plugin in a way that runpy cannot.
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    with pytest.raises(SystemExit) as left:
        runpy.run_path(found.origin, run_name="__main__")
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith("Usage: b2b-payments ")


@pytest.mark.parametrize("command", ["verify", "report"])
def test_in_a_thread(command: str) -> None:
    """The commands that need no event loop also run in another thread than the main one."""
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(invoke, None, command, "nowhere.jsonl").result()
    assert "nowhere.jsonl does not exist" in sentence(result, 1)
