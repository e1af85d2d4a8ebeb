"""What an export reads: one walk over the store, or one for each channel that was asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from b2b_payments._cli.running import CommandError

if TYPE_CHECKING:
    from b2b_payments._client import PaymentsClient
    from b2b_payments._walk.stream import PaymentStream
    from b2b_payments._walk.walk import Walk
    from b2b_payments.export import Checkpoint

    Begin = Callable[[Checkpoint | None], Walk | PaymentStream]

_READING = frozenset({"page_size", "concurrency"})


def query_of(walk: dict[str, Any]) -> dict[str, Any]:
    """Give what was asked for, as the manifest has it: how it was read is no part of it."""
    query = {name: value for name, value in walk.items() if value is not None and name not in _READING}
    if "channel_ids" in query:
        query["channel_ids"] = list(query["channel_ids"])
    return query


async def source_of(client: PaymentsClient, walk: dict[str, Any]) -> Begin:
    """Give what begins the walk, anew or from a checkpoint. Raises CommandError for an unknown channel."""
    wanted = walk["channel_ids"]
    if wanted is None:
        return lambda checkpoint: client.payments.list(**walk, checkpoint=checkpoint)
    known = {channel.channel_id: channel.name for channel in await client.channels.list()}
    if unknown := [str(channel_id) for channel_id in wanted if channel_id not in known]:
        listed = ", ".join(f"{channel_id} ({name})" for channel_id, name in known.items()) or "none"
        raise CommandError(f"The store has no channel {', '.join(unknown)}; it has {listed}.")
    # One request asks for one channel only: how several are written is not documented. Channel by channel, so
    # that two exports of a store that did not change are the same file.
    return lambda checkpoint: client.payments.stream(**walk, ordered=True, checkpoint=checkpoint)
