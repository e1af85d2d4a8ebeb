"""The program and its commands.

Modules of this package import little at the top, so that --help is fast. What talks to the service is
imported inside the functions that need it.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from b2b_payments._cli import doctor, endpoints, export, follow, offline, report, sandbox, sync, verify
from b2b_payments._cli.command import INTERRUPTED, Command, CommandError, StoppedError
from b2b_payments._cli.streams import bare, standard_streams
from b2b_payments._version import __version__


class Program(click.Group):
    """A group that lists commands in the order they were added, and prints failures as one sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's own signature
        return list(self.commands)

    def main(self, *args: Any, **settings: Any) -> Any:
        """Run a command with wrapped standard streams, see `standard_streams`."""
        with standard_streams():
            return super().main(*args, **settings)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and turn its failure into a message and an exit code."""
        try:
            return super().invoke(ctx)
        except StoppedError as stopped:
            _print_stopped(str(stopped))
            ctx.exit(stopped.exit_code)
        except CommandError as failure:
            click.echo(f"Error: {failure}", err=True)
            ctx.exit(failure.exit_code)
        except BrokenPipeError:
            # The reader has closed the pipe, as `head` does. `export` handles this itself, as a failure.
            ctx.exit(0)
        except KeyboardInterrupt:
            # Ctrl-C before the event loop handled signals.
            _print_stopped("Stopped by Ctrl-C.")
            ctx.exit(INTERRUPTED)


def _print_stopped(sentence: str) -> None:
    if sys.stderr.isatty():
        # Overwrite the ^C that the terminal shows.
        bare(sys.stderr).write("\r")
    click.echo(sentence, err=True)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version")
def program() -> None:
    """Read, export and change the invoice payments of a BigCommerce B2B Edition store.

    The credential comes from the environment: B2B_PAYMENTS_STORE_HASH and B2B_PAYMENTS_ACCESS_TOKEN, or
    B2B_PAYMENTS_AUTH_TOKEN alone. B2B_PAYMENTS_BASE_URL sets another address of the service.

    Results are printed to standard output as JSON: indented on a terminal, one per line in a pipe. Exit
    codes: 0 done, 1 failed or not complete, 2 wrong usage, 3 outcome of a write unknown, 4 another run is in
    progress, 130 or 143 stopped by Ctrl-C or SIGTERM.
    """


for module in (export, sync, follow, verify, report, doctor, endpoints, offline, sandbox):
    for command in vars(module).values():
        if isinstance(command, Command):
            program.add_command(command)
