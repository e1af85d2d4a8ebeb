"""`doctor`."""

from __future__ import annotations

import os
import sys
import textwrap
from typing import TYPE_CHECKING, Any, Final

import click

from b2b_payments._cli.command import Command, run
from b2b_payments._cli.connection import Connection, connection_options
from b2b_payments._cli.output import write_file
from b2b_payments._cli.streams import require_output
from b2b_payments._cli.values import new_file
from b2b_payments._errors import ConfigurationError
from b2b_payments._printable import counted
from b2b_payments._version import __version__

if TYPE_CHECKING:
    from b2b_payments._doctor.evidence import Auth, Evidence
    from b2b_payments._doctor.finding import Finding

_MARKS: Final = {"fine": "ok", "note": "note", "problem": "PROBLEM", "unknown": "?"}
_WIDTH: Final = 100


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as one JSON object.")
@click.option(
    "--save",
    metavar="FILE",
    type=new_file,
    help="Write the same JSON to a file, to send to the maintainers; it contains no personal data.",
)
@connection_options
def doctor(connection: Connection, as_json: bool, save: str | None) -> None:
    """Find out how this store's service really behaves.

    Sends at most 32 requests, which only read. Each finding says what was seen, what it means for this
    library, and what to set. The output contains no payment data, no credential, and neither the store's name
    nor its address. Exit code 0 means that the credential works, whatever else was found.
    """
    require_output()

    async def work() -> Evidence:
        from b2b_payments._cli.waits import waits_shown
        from b2b_payments._client import settings_from_env
        from b2b_payments._doctor.asking import examine

        with waits_shown() as listen:
            auth, others = _credentials()
            settings: Any = connection.settings | {"on_event": listen}
            return await examine(auth, others, settings_from_env(settings))

    from b2b_payments._doctor.findings import findings

    evidence = run(work)
    by_topic = findings(evidence)
    report = _report(evidence, by_topic)
    if save is not None:
        write_file(save, report.encode())
    if as_json:
        sys.stdout.write(report)
    else:
        _print(evidence, by_topic, save)
    click.get_current_context().exit(1 if by_topic["authentication"].level == "problem" else 0)


def _credentials() -> tuple[Auth, list[Auth]]:
    """Return the environment's credential, and the same token for the other kind of authentication."""
    from b2b_payments._auth import LegacyAuth, StoreAuth
    from b2b_payments._client import auth_from_env

    auth = auth_from_env()
    if isinstance(auth, StoreAuth):
        return auth, [LegacyAuth(auth.access_token)]
    try:
        return auth, [StoreAuth(os.environ.get("B2B_PAYMENTS_STORE_HASH", ""), auth.auth_token)]
    except ConfigurationError:
        return auth, []


def _report(evidence: Evidence, by_topic: dict[str, Finding]) -> str:
    import attrs
    import msgspec

    report: dict[str, Any] = {
        "b2b_payments": __version__,
        "requests": evidence.requests,
        "findings": [{"topic": topic, **attrs.asdict(finding)} for topic, finding in by_topic.items()],
    }
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n"


def _print(evidence: Evidence, by_topic: dict[str, Finding], saved: str | None) -> None:
    indent = " " * 9
    for topic, one in by_topic.items():
        title = topic if one.level == "unknown" else f"{topic}: {one.verdict}"
        click.echo(f"{_MARKS[one.level]:>7}  {title}")
        for text in filter(None, (one.seen, one.means, one.advice and f"→ {one.advice}")):
            click.echo(textwrap.fill(text, _WIDTH, initial_indent=indent, subsequent_indent=indent))
    problems = sum(one.level == "problem" for one in by_topic.values())
    click.echo(f"{counted(evidence.requests, 'request')}, {counted(problems, 'problem')}.", err=True)
    where = f"{saved} is" if saved else "--save FILE writes"
    click.echo(f"{where} a file to send to the maintainers; it contains no personal data.", err=True)
