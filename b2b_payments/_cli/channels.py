"""`channels` and `channel`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from b2b_payments._cli.command import Command
from b2b_payments._cli.connection import Connection, connection_options
from b2b_payments._cli.output import show
from b2b_payments._cli.values import AT_LEAST_ONE

if TYPE_CHECKING:
    from b2b_payments._client import PaymentsClient


@click.command(cls=Command)
@connection_options
def channels(connection: Connection) -> None:
    """List the store's channels; `channelId` is what --channel takes."""

    async def work(client: PaymentsClient) -> None:
        from b2b_payments._converter import to_wire

        await show(map(to_wire, await client.channels.list()))

    connection.call(work)


@click.command(cls=Command)
@click.argument("channel_id", metavar="ID", type=AT_LEAST_ONE)
@connection_options
def channel(connection: Connection, channel_id: int) -> None:
    """Print one channel; ID is its `channelId`."""

    async def work(client: PaymentsClient) -> None:
        from b2b_payments._converter import to_wire

        await show([to_wire(await client.channels.get(channel_id))])

    connection.call(work)
