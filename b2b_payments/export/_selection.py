"""Which payments an export asks for, and how they are read."""

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
    """The filters of a list, and how its pages are read."""

    query: PaymentQuery = PaymentQuery()
    page_size: int = 250
    concurrency: int = 8
    period: Period = Period()

    @property
    def manifest(self) -> dict[str, Any]:
        """What was asked for, as a manifest has it: how it was read is no part of it."""
        given = {name: getattr(self.query, name) for name in self.query.filters}
        listed = {"channel_ids": list(given["channel_ids"])} if "channel_ids" in given else {}
        return given | listed | self.period.words

    @property
    def walk(self) -> dict[str, Any]:
        """The parameters of a walk."""
        return self._stream | {"sort_by": self.query.sort_by, "order_by": self.query.order_by}

    @property
    def _stream(self) -> dict[str, Any]:
        reading: dict[str, Any] = {"page_size": self.page_size, "concurrency": self.concurrency}
        reading |= {"created_from": self.period.start, "created_to": self.period.stop}
        return {name: getattr(self.query, name) for name in self.query.filters} | reading

    async def source(self, client: PaymentsClient) -> Begin:
        """Return a function that starts the walk from a checkpoint or None.

        Raises ExportError for an unknown channel.
        """
        wanted = self.query.channel_ids
        if wanted is None:
            return lambda checkpoint: client.payments.list(**self.walk, checkpoint=checkpoint)
        known = {channel.channel_id: channel.name for channel in await client.channels.list()}
        if unknown := [str(channel_id) for channel_id in wanted if channel_id not in known]:
            listed = ", ".join(f"{channel_id} ({name})" for channel_id, name in known.items()) or "none"
            raise ExportError(f"The store has no channel {', '.join(unknown)}; it has {listed}.")
        # One request asks for one channel only: how several are written is not documented. Channel by
        # channel, so that two exports of a store that did not change are the same file.
        return lambda checkpoint: client.payments.stream(**self._stream, ordered=True, checkpoint=checkpoint)
