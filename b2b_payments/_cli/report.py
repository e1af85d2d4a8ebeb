"""`report`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from b2b_payments._cli.command import Command, command_errors
from b2b_payments._cli.output import write_file
from b2b_payments._cli.streams import output_error, require_output
from b2b_payments._cli.values import new_file, not_blank
from b2b_payments._errors import ExportError
from b2b_payments._formats import FORMATS
from b2b_payments._printable import counted, printable

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from b2b_payments._reporting.summary import Summary
    from b2b_payments._reporting.wording import Section

_BAR = 16
_HTML_ENDINGS = (".html", ".htm")


@click.command(cls=Command)
@click.argument("file", metavar="FILE", type=not_blank)
@click.option("--html", "page", metavar="FILE", type=new_file, help="Write a web page with charts instead.")
@click.option(
    "--format",
    "format_",
    type=click.Choice([*FORMATS]),
    help="Not needed if the file's ending or its manifest names it.",
)
@click.option(
    "--schema", metavar="NAME", type=not_blank, help="The schema of a copy in PostgreSQL. [b2b_payments]"
)
def report(file: str, page: str | None, format_: str | None, schema: str | None) -> None:
    """Report the money and counts in an export or a copy.

    Totals by month of creation (UTC), processing status, channel and module, and the customers with the
    largest totals: per currency, and exact to the last digit. FILE is an export, a copy made by sync, or the
    address of a copy in PostgreSQL, as for sync --to. The page of --html is a single file that loads nothing.
    """
    from b2b_payments._cli.waits import object_store_waits_shown
    from b2b_payments._reporting.summary import summary_of
    from b2b_payments.export._bucket import is_url
    from b2b_payments.export._file import path_of
    from b2b_payments.export._reading import detect_format, read_copy, read_payments
    from b2b_payments.export._server import is_postgres
    from b2b_payments.export._verification import local_copy
    from b2b_payments.sync._store import SCHEMA, PostgresStore

    if page is not None and not page.lower().endswith(_HTML_ENDINGS):
        raise click.UsageError(f"{page!r} does not end with .html or .htm: give a name such as report.html.")
    if page is None:
        require_output()
    elif os.path.realpath(page) == os.path.realpath(file):
        raise click.UsageError(f"{page!r} is the file to report on: give --html another name.")
    if schema is not None and not is_postgres(file):
        raise click.UsageError("--schema is only for copies in PostgreSQL: leave it out.")
    with command_errors():
        if is_postgres(file):
            server = PostgresStore(file, schema=schema or SCHEMA).place
            summary, name = summary_of(read_copy(server)), str(server)
            notes = _unreadable(summary)
        else:
            with (
                object_store_waits_shown(),
                local_copy(file) if is_url(file) else nullcontext(Path(path_of(file))) as path,
            ):
                file_format = format_ or (detect_format(path) if path.is_file() else "jsonl")
                if file_format is None:
                    raise click.UsageError(
                        f"The format of {file!r} is not known: give --format, or name an export."
                    )
                summary, name = summary_of(read_payments(path, file_format)), path.name
                notes = _notes(path, summary)
    if page is None:
        _print(summary, notes)
    else:
        _write(page, name, summary, notes)


def _unreadable(summary: Summary) -> list[str]:
    if not summary.unreadable:
        return []
    return [f"{counted(summary.unreadable, 'payment')} could not be read: not included in any total."]


def _notes(path: Path, summary: Summary) -> list[str]:
    """Return sentences on what the totals do not include, and when the file was exported."""
    from b2b_payments.export._manifest import read_manifest

    notes = _unreadable(summary)
    try:
        account = read_manifest(path).account
    except ExportError:
        return notes
    totals = {currency: one.whole.total for currency, one in summary.currencies.items()}
    if (account.sums.whole.rows, account.sums.whole.totals) != (summary.payments, totals):
        notes.append("The payments differ from those in the file's manifest: run `b2b-payments verify`.")
        return notes
    state = "complete" if account.complete else "not known to be complete"
    return [*notes, f"Export ended at {account.ended or 'an unknown time'}, {state}."]


def _write(page: str, name: str, summary: Summary, notes: list[str]) -> None:
    from b2b_payments._reporting.page import page_of

    write_file(page, page_of(summary, name, notes).encode())
    click.echo(f"{page}: a report of {counted(summary.payments, 'payment')}.", err=True)


def _print(summary: Summary, notes: list[str]) -> None:
    from b2b_payments._cli.terminal import console_on

    console = console_on(sys.stdout)
    try:
        for part in _parts(summary, notes):
            console.print(part)
    except OSError as error:
        raise output_error(error) from None


def _parts(summary: Summary, notes: list[str]) -> Iterator[Text | Table]:
    from rich.text import Text

    from b2b_payments._reporting.wording import by_payments, currency_name, money, sections

    yield Text(f"{counted(summary.payments, 'payment')}.")
    for note in notes:
        yield Text(printable(note))
    for currency, totals in by_payments(summary):
        whole = f"{counted(totals.whole.payments, 'payment')}, {money(totals.whole.total)}"
        yield Text()
        yield Text(f"{currency_name(currency)}: {whole}", style="bold")
        for section in sections(summary, totals):
            yield Text()
            yield _table(section)
            if section.note:
                yield Text(f"  {section.note}")


def _table(section: Section) -> Table:
    from rich.table import Table
    from rich.text import Text

    from b2b_payments._reporting.wording import money

    table = Table(box=None, pad_edge=False, header_style="")
    table.add_column(section.heading, overflow="fold")
    table.add_column("Payments", justify="right", no_wrap=True)
    table.add_column("Total", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, min_width=_BAR)
    for group in section.groups:
        bar = "█" * round(_BAR * group.share) or ("▏" if group.share else "")
        cells = (group.label, f"{group.figure.payments:,}", money(group.figure.total), bar)
        table.add_row(*map(Text, cells))
    return table
