"""`report`."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from b2b_payments._cli.command import USAGE, Command, CommandError
from b2b_payments._cli.output import write_file
from b2b_payments._cli.streams import require_output
from b2b_payments._cli.values import TEXT, new_file
from b2b_payments._formats import FORMATS

if TYPE_CHECKING:
    from rich.table import Table

    from b2b_payments._reporting.summary import Summary
    from b2b_payments._reporting.wording import Section

_BAR = 16
_PAGES = (".html", ".htm")


@click.command(cls=Command)
@click.argument("file", metavar="FILE", type=TEXT)
@click.option(
    "--html", "page", metavar="FILE", type=new_file, help="Write a page with charts, for a browser, instead."
)
@click.option(
    "--format",
    "format_",
    type=click.Choice([*FORMATS]),
    help="Not needed where the file's ending or its manifest says it.",
)
@click.option(
    "--schema", metavar="NAME", type=TEXT, help="The schema of a copy in PostgreSQL. [b2b_payments]"
)
def report(file: str, page: str | None, format_: str | None, schema: str | None) -> None:
    """Show what is in an export, or in a copy that sync keeps: money and counts.

    A copy in PostgreSQL is named by its address, as sync --to has it. By month of creation (UTC), processing
    status, channel and module, and the customers of the largest totals; in each currency for itself, to the
    last digit. The page of --html is one file that loads nothing.
    """
    from b2b_payments._cli.waits import telling_silence
    from b2b_payments._errors import B2BPaymentsError, ConfigurationError
    from b2b_payments._reporting.summary import summary_of
    from b2b_payments.export._bucket import is_url
    from b2b_payments.export._file import path_of
    from b2b_payments.export._postgres import is_postgres
    from b2b_payments.export._reading import found_format, read_copy, read_payments
    from b2b_payments.export._verification import at_hand
    from b2b_payments.sync._store import SCHEMA, PostgresStore

    if page is not None and not page.lower().endswith(_PAGES):
        raise click.UsageError(f"{page!r} has not the ending of a page: give one such as report.html.")
    if page is None:
        require_output()
    elif os.path.realpath(page) == os.path.realpath(file):
        raise click.UsageError(f"{page!r} is the file that is reported on: give --html another name.")
    if schema is not None and not is_postgres(file):
        raise click.UsageError("--schema is about copies in PostgreSQL: leave it out.")
    try:
        if is_postgres(file):
            server = PostgresStore(file, schema=schema or SCHEMA).place
            summary, name = summary_of(read_copy(server)), str(server)
            notes = _unreadable(summary)
        else:
            with (
                telling_silence(),
                at_hand(file) if is_url(file) else nullcontext(Path(path_of(file))) as path,
            ):
                known = format_ or (found_format(path) if path.is_file() else "jsonl")
                if known is None:
                    raise click.UsageError(
                        f"{file!r} does not say its format: give --format, or name an export."
                    )
                summary, name = summary_of(read_payments(path, known)), path.name
                notes = _notes(path, summary)
    except ConfigurationError as error:
        raise CommandError(str(error), USAGE) from None
    except B2BPaymentsError as error:
        raise CommandError(str(error)) from None
    if page is None:
        _print(summary, notes)
    else:
        _write(page, name, summary, notes)


def _unreadable(summary: Summary) -> list[str]:
    from b2b_payments._printable import counted

    if not summary.unreadable:
        return []
    return [f"{counted(summary.unreadable, 'payment')} could not be read: no sum has them."]


def _notes(path: Path, summary: Summary) -> list[str]:
    """Say how the file came about, and what of it is not in the sums."""
    from b2b_payments._errors import ExportError
    from b2b_payments.export._manifest import read_manifest

    notes = _unreadable(summary)
    try:
        account = read_manifest(path).account
    except ExportError:
        return notes
    whole = {currency: of.whole.total for currency, of in summary.currencies.items()}
    if (account.sums.whole.rows, account.sums.whole.totals) != (summary.payments, whole):
        notes.append("These are not the payments of its manifest: run `b2b-payments verify`.")
        return notes
    state = "complete" if account.complete else "not known to be complete"
    return [*notes, f"Exported until {account.ended or 'an unknown time'}, {state}."]


def _write(page: str, name: str, summary: Summary, notes: list[str]) -> None:
    from b2b_payments._printable import counted
    from b2b_payments._reporting.page import page_of

    write_file(page, page_of(summary, name, notes).encode())
    click.echo(f"{page}: a report of {counted(summary.payments, 'payment')}.", err=True)


def _print(summary: Summary, notes: list[str]) -> None:
    from rich.text import Text

    from b2b_payments._cli.terminal import console_on
    from b2b_payments._printable import counted, printable
    from b2b_payments._reporting.wording import currency_name, money, ordered, sections

    console = console_on(sys.stdout)
    console.print(Text(f"{counted(summary.payments, 'payment')}."))
    for note in notes:
        console.print(Text(printable(note)))
    for currency, of in ordered(summary):
        whole = f"{counted(of.whole.payments, 'payment')}, {money(of.whole.total)}"
        console.print()
        console.print(Text(f"{currency_name(currency)}: {whole}", style="bold"))
        for section in sections(summary, of):
            console.print()
            console.print(_table(section))
            if section.note:
                console.print(Text(f"  {section.note}"))


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
        bar = "█" * round(_BAR * group.part) or ("▏" if group.part else "")
        cells = (group.label, f"{group.figure.payments:,}", money(group.figure.total), bar)
        table.add_row(*map(Text, cells))
    return table
