"""`report`: on every format and on copies, compared with totals computed in another way."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from b2b_payments._reporting.summary import Summary, summary_of
from b2b_payments.export import verify
from b2b_payments.export._reading import detect_format, read_payments
from b2b_payments.sandbox import Sandbox
from tests.support.examples import LISTED_PAYMENT
from tests.support.export_reading import FORMATS
from tests.support.program import invoke, sentence

Sums = dict[tuple[str, str, str], tuple[int, Fraction]]
"""Payments and their total by currency, dimension and label."""


def _expected(rows: Iterable[Mapping[str, Any]]) -> Sums:
    """Add up in another way: the service's own objects, as fractions."""
    found: dict[tuple[str, str, str], list[Fraction]] = defaultdict(list)
    for row in rows:
        amount = Fraction(row["total"]["value"])
        labels = {
            "whole": "",
            "month": datetime.fromtimestamp(row["createdAt"], UTC).strftime("%Y-%m"),
            "status": str(row["processingStatus"]),
            "channel": str(row.get("channelId") or ""),
            "module": row["moduleName"],
        }
        for dimension, label in labels.items():
            found[row["total"]["code"], dimension, label].append(amount)
    return {key: (len(amounts), sum(amounts, Fraction(0))) for key, amounts in found.items()}


def _found(summary: Summary) -> Sums:
    found: Sums = {}
    for currency, of in summary.currencies.items():
        found[currency, "whole", ""] = of.whole.payments, Fraction(of.whole.total)
        for dimension, groups in of.by.items():
            for label, one in groups.items():
                found[currency, dimension, label] = one.payments, Fraction(one.total)
    return found


def _top(rows: Iterable[Mapping[str, Any]], currency: str) -> list[tuple[str, int, Fraction]]:
    by_customer: dict[str, list[Fraction]] = defaultdict(list)
    for row in rows:
        if row["total"]["code"] == currency:
            by_customer[row["customerId"]].append(Fraction(row["total"]["value"]))
    sums = [(one, len(amounts), sum(amounts, Fraction(0))) for one, amounts in by_customer.items()]
    return sorted(sums, key=lambda one: (-one[2], one[0]))[:10]


def _summary(path: Path) -> Summary:
    return summary_of(read_payments(path, detect_format(path) or ""))


@pytest.mark.parametrize("format_", FORMATS)
def test_sums_are_exact_in_every_format(service: Sandbox, tmp_path: Path, format_: str) -> None:
    """Counts and money equal those of the store to the last digit, and the totals those of `verify`."""
    service.store.update(7, total={"code": "USD", "value": "90071992547409.930000000001"})
    service.store.update(8, total={"code": "XTS", "value": "-0.000000000001"}, customerName="=1+1\n\x1b[2J")
    target = tmp_path / f"payments.{format_}"
    exported = invoke(service, "export", "--output", str(target))
    assert exported.exit_code == 0, exported.output
    rows = list(service.store.all_wire())
    summary = _summary(target)
    assert (summary.payments, summary.unreadable) == (300, 0)
    assert _found(summary) == _expected(rows)
    for currency, of in summary.currencies.items():
        top = [(one.id, one.figure.payments, Fraction(one.figure.total)) for one in of.top]
        assert top == _top(rows, currency)
    account = verify(target).account.sums.whole
    assert account.totals == {name: of.whole.total for name, of in summary.currencies.items()}
    assert account.rows == summary.payments


@pytest.mark.parametrize("ending", ["sqlite", "duckdb"])
def test_sums_of_a_copy(service: Sandbox, tmp_path: Path, ending: str) -> None:
    """A copy made by `sync` is reported on like an export, without a manifest."""
    target = tmp_path / f"copy.{ending}"
    assert invoke(service, "sync", "--to", str(target)).exit_code == 0
    assert _found(_summary(target)) == _expected(service.store.all_wire())
    result = invoke(None, "report", str(target))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("300 payments.\n\nUSD: ")


def test_on_a_terminal(service: Sandbox, tmp_path: Path) -> None:
    """Each currency has its tables, each row its count, total and bar; control characters are escaped."""
    service.store.update(8, total={"code": "XTS", "value": "1234.5000"}, customerName="a\x1b[2Jb")
    target = tmp_path / "payments.jsonl"
    assert invoke(service, "export", "--output", str(target)).exit_code == 0
    result = invoke(None, "report", str(target))
    assert (result.exit_code, result.stderr) == (0, "")
    part = result.stdout.partition("XTS: 1 payment, 1,234.50")[2]
    heads = [line.split()[0] for line in part.splitlines() if line.strip()][::2]
    assert heads == ["Month", "Processing", "Channel", "Module", "Top"]
    assert "a\\x1b[2Jb" in part
    assert "1,234.50  ████████████████" in part
    assert ", complete." in result.stdout
    # A file that no longer matches its manifest.
    target.write_bytes(target.read_bytes().partition(b"\n")[2])
    assert "differ from those in the file's manifest" in invoke(None, "report", str(target)).stdout


def test_unreadable_payments_are_counted(tmp_path: Path) -> None:
    """A line that is not a payment is counted, and reported as not in any total."""
    target = tmp_path / "payments.ndjson"
    target.write_bytes(b'{"id": 1}\nnonsense\n')
    result = invoke(None, "report", str(target))
    assert result.stdout == "2 payments.\n2 payments could not be read: not included in any total.\n"


def test_readable_totals_are_in_the_report(tmp_path: Path) -> None:
    """A payment with a readable total counts, also if its customer, channel or time cannot be read."""
    target, page = tmp_path / "payments.jsonl", tmp_path / "report.html"
    odd: dict[str, Any] = {"customerId": None, "channelId": {}, "createdAt": 10**15}
    rows = [
        LISTED_PAYMENT,
        *({**LISTED_PAYMENT, "id": 70 + at, name: odd[name]} for at, name in enumerate(odd, 1)),
    ]
    target.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = invoke(None, "report", str(target), "--html", str(page))
    assert (result.exit_code, result.stderr) == (0, f"{page}: a report of 4 payments.\n")
    assert "<p>4 payments, 120.00</p>" in page.read_text()
    assert "<td>none" in page.read_text()


_EVIL = "</title></style><script>alert(1)</script><img src=https://b2b.test/x onerror='a'>\"&"


def test_page_has_all_figures_and_loads_nothing(service: Sandbox, tmp_path: Path) -> None:
    """The page has every figure, escapes the store's text, and its policy forbids loading anything."""
    names = dict.fromkeys(("customerName", "moduleName", "channelName", "customerId"), _EVIL)
    total = {"code": "USD", "value": "99999999.000000000001"}
    service.store.update(8, total=total, channelId="77", **names)
    target, page = tmp_path / "<b>payments.jsonl", tmp_path / "report.html"
    assert invoke(service, "export", "--output", str(target)).exit_code == 0
    result = invoke(None, "report", str(target), "--html", str(page))
    assert (result.exit_code, result.stdout) == (0, "")
    text = page.read_text(encoding="utf-8")
    assert result.stderr == f"{page}: a report of 300 payments.\n"
    tags = set(re.findall(r"<(/?[a-z0-9!]+)", text))
    assert not tags & {"script", "img", "link", "iframe", "b", "a", "object", "form", "base"}
    assert text.count("&lt;script&gt;") == 4
    assert not re.search(r"<[^>]*\s(?:src|href|style|on[a-z]+)=", text)
    assert not re.search(r"url\(|@import", text)
    assert "default-src &#x27;none&#x27;" in text or "default-src 'none'; style-src 'sha256-" in text
    shown = {Fraction(digits.replace(",", "")) for digits in re.findall(r"-?[0-9,]+\.[0-9]+", text)}
    for (currency, _, _), (payments, total_of) in _expected(service.store.all_wire()).items():
        assert f"<h2>{currency}</h2>" in text
        assert f'<td class="number payments">{payments:,}</td>' in text or f"{payments:,} payment" in text
        assert total_of in shown


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("nowhere.jsonl",), 1, "nowhere.jsonl does not exist"),
        ((".",), 1, ". is a folder"),
        (("payments.txt",), 2, "The format of 'payments.txt' is not known"),
        (("payments.txt", "--format", "csv"), 1, "cannot be read as csv: 'processing_status' is missing."),
        (("fifo", "--format", "jsonl"), 1, "fifo is not a regular file"),
        (("payments.txt", "--format", "parquet"), 1, "payments.txt cannot be read as parquet"),
        (("payments.txt", "--format", "sqlite"), 1, "payments.txt could not be read"),
        (("payments.txt", "--html", "report.pdf"), 2, "'report.pdf' does not end with .html"),
        (
            ("payments.txt", "--format", "jsonl", "--html", "nowhere/x.html"),
            2,
            "nowhere/x.html cannot be written",
        ),
        (("same.html", "--format", "jsonl", "--html", "./same.html"), 2, "is the file to report on"),
    ],
)
def test_unreadable_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], code: int, says: str
) -> None:
    """A file that does not exist or cannot be read is named in one sentence."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    for name in ("payments.txt", "same.html"):
        Path(name).write_text("id\nnonsense\n", encoding="utf-8")
    assert says in sentence(invoke(None, "report", *args), code)


def test_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a format's library is not installed, the message says what to install."""
    monkeypatch.setitem(sys.modules, "duckdb", None)
    target = tmp_path / "payments.parquet"
    target.write_bytes(b"PAR1")
    message = sentence(invoke(None, "report", str(target)), 2)
    assert message == "Error: Parquet needs duckdb: pip install 'b2b-payments[parquet]'."
