"""The program and its commands.

What a module of this package imports at its top is light, so that help is quick: what talks to the service is
imported inside the command that does.
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
    """A group of commands, in the order they were added, that says what failed in one sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's own signature
        """Return the names of the commands."""
        return list(self.commands)

    def main(self, *args: Any, **settings: Any) -> Any:
        """Run with standard streams that are fit for it."""
        with standard_streams():
            return super().main(*args, **settings)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except StoppedError as stopped:
            _say_stopped(str(stopped))
            ctx.exit(stopped.exit_code)
        except CommandError as failure:
            click.echo(f"Error: {failure}", err=True)
            ctx.exit(failure.exit_code)
        except BrokenPipeError:
            # Whoever read has seen enough, as `head` has. An export that is cut off has an error of its own.
            ctx.exit(0)
        except KeyboardInterrupt:
            # It came before there was anything to stop.
            _say_stopped("Stopped by Ctrl-C.")
            ctx.exit(INTERRUPTED)


def _say_stopped(sentence: str) -> None:
    if sys.stderr.isatty():
        # A terminal shows ^C where the cursor was: the sentence stands in its place.
        bare(sys.stderr).write("\r")
    click.echo(sentence, err=True)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version")
def program() -> None:
    """Invoice payments of a BigCommerce B2B Edition store.

    The credential comes from the environment: B2B_PAYMENTS_STORE_HASH and B2B_PAYMENTS_ACCESS_TOKEN, or
    B2B_PAYMENTS_AUTH_TOKEN alone; B2B_PAYMENTS_BASE_URL names another address of the service.

    Results go to standard output as JSON, indented on a terminal, a line each in a pipe. Exit codes: 0 done,
    1 failed, 2 wrong usage, 3 a write whose outcome is not known, 4 another run of it is under way,
    130 or 143 stopped.
    """


for module in (export, sync, follow, verify, report, doctor, endpoints, offline, sandbox):
    for command in vars(module).values():
        if isinstance(command, Command):
            program.add_command(command)
