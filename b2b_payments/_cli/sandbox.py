"""`sandbox`."""

from __future__ import annotations

import errno

import click

from b2b_payments._cli.command import Command, CommandError, StoppedError, option_with_default, run
from b2b_payments._cli.streams import require_output
from b2b_payments._cli.values import WholeNumber
from b2b_payments._printable import counted


@click.command(cls=Command)
@option_with_default(
    "--port", type=WholeNumber(0, 65535), default=0, help="The port to listen on; 0 for any free port."
)
@option_with_default(
    "--payments", type=WholeNumber(0, 10_000_000), default=10_000, help="Number of payments."
)
@option_with_default("--channels", type=WholeNumber(1, 1000), default=3, help="Number of channels.")
@option_with_default("--seed", type=WholeNumber(), default=7, help="The same seed gives the same store.")
def sandbox(port: int, payments: int, channels: int, seed: int) -> None:
    """Run a sandbox of the service on this machine.

    Runs until Ctrl-C. Prints export lines for a shell: with these variables, other commands use the sandbox.
    """

    require_output()  # without it, the address cannot be printed

    async def serve() -> None:
        import anyio

        from b2b_payments.sandbox import Sandbox

        server = Sandbox(payments=payments, channels=range(1, channels + 1), seed=seed, port=port)
        try:
            await server.start()
        except OSError as error:
            raise CommandError(_refusal(port, error)) from None
        try:
            click.echo(f"# {counted(payments, 'payment')} at {server.base_url} until Ctrl-C")
            click.echo(f"export B2B_PAYMENTS_BASE_URL={server.base_url}")
            click.echo(f"export B2B_PAYMENTS_STORE_HASH={server.auth.store_hash}")
            click.echo(f"export B2B_PAYMENTS_ACCESS_TOKEN={server.auth.access_token}")
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await server.stop()

    try:
        run(serve)
    except StoppedError:
        click.echo("The sandbox was stopped.", err=True)


def _refusal(port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} is in use: give another port, or --port 0 for any free one."
    return f"Port {port} cannot be used ({error.strerror}): give another port, or --port 0 for any free one."
