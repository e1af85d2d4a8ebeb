"""Which payments an export requests, and how it reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from b2b_payments._client import PaymentsClient
from b2b_payments._errors import ExportError
from b2b_payments._printable import frozen
from b2b_payments._protocol.query import PaymentQuery
from b2b_payments._walk.period import Period
from b2b_payments._walk.stream import PaymentStream
from b2b_payments._walk.walk import Walk
from b2b_payments.export._sink import Checkpoint

Begin = Callable[[Checkpoint | None], Walk | PaymentStream]


@frozen
class Selection:
    """The filters of a list of payments, and how its pages are requested."""

    query: PaymentQuery = PaymentQuery()
    page_size: int = 250
    concurrency: int = 8
    period: Period = Period()

    @property
    def manifest(self) -> dict[str, Any]:
        """The filters for the manifest, without the settings that only affect how pages are requested."""
        filters = {name: getattr(self.query, name) for name in self.query.filters}
        channels = {"channel_ids": list(filters["channel_ids"])} if "channel_ids" in filters else {}
        return filters | channels | self.period.parameters

    @property
    def walk(self) -> dict[str, Any]:
        """The arguments of `payments.list` for a walk."""
        return self.stream | {"sort_by": self.query.sort_by, "order_by": self.query.order_by}

    @property
    def stream(self) -> dict[str, Any]:
        """The arguments of `payments.stream`."""
        reading: dict[str, Any] = {"page_size": self.page_size, "concurrency": self.concurrency}
        reading |= {"created_from": self.period.start, "created_to": self.period.stop}
        return {name: getattr(self.query, name) for name in self.query.filters} | reading

    async def source(self, client: PaymentsClient) -> Begin:
        """Return a function that starts the walk at a checkpoint. Raises ExportError for unknown channels."""
        requested = self.query.channel_ids
        if requested is None:
            return lambda checkpoint: client.payments.list(**self.walk, checkpoint=checkpoint)
        names = {channel.channel_id: channel.name for channel in await client.channels.list()}
        if unknown := [str(channel_id) for channel_id in requested if channel_id not in names]:
            known = ", ".join(f"{channel_id} ({name})" for channel_id, name in names.items()) or "none"
            raise ExportError(f"The store has no channel {', '.join(unknown)}; it has {known}.")
        # One request filters by one channel: the format of several is not documented. One channel follows
        # the other, so that two exports of an unchanged store are the same file.
        return lambda checkpoint: client.payments.stream(**self.stream, ordered=True, checkpoint=checkpoint)
