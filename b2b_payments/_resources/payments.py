"""`client.payments`."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from b2b_payments._arguments import whole
from b2b_payments._call import Tally
from b2b_payments._changes.feed import INTERVAL, OVERLAP, Changes
from b2b_payments._converter import (
    offline_payment_body,
    structure,
    structure_list,
    structure_payment,
)
from b2b_payments._errors import ConfigurationError, OutcomeUnknownError
from b2b_payments._models import (
    OfflinePayment,
    Operation,
    OrderBy,
    Payment,
    PaymentOperations,
    ProcessingStatus,
    SearchBy,
    SortBy,
    Transaction,
)
from b2b_payments._printable import frozen
from b2b_payments._protocol import request as requests
from b2b_payments._protocol.query import PaymentQuery
from b2b_payments._resources.creates import Creates
from b2b_payments._resources.writes import Writes
from b2b_payments._walk.checkpoint import for_channel
from b2b_payments._walk.period import Period
from b2b_payments._walk.source import MOST_ROWS, look_up
from b2b_payments._walk.stream import PaymentStream
from b2b_payments._walk.walk import DEFAULT_CONCURRENCY, Walk, Walker


@frozen
class Payments:
    """The store's payments. Every method raises APIError, TransportError and ResponseDecodeError."""

    _walker: Walker
    _writes: Writes

    def list(
        self,
        *,
        channel_ids: Sequence[int] | None = None,
        processing_status: ProcessingStatus | int | None = None,
        customer_name: str | None = None,
        invoice_id: int | None = None,
        search_by: SearchBy | str | None = None,
        q: str | None = None,
        sort_by: SortBy | str = SortBy.CREATED_AT,
        order_by: OrderBy | str = OrderBy.ASC,
        offset: int = 0,
        page_size: int = MOST_ROWS,
        concurrency: int = DEFAULT_CONCURRENCY,
        checkpoint: Mapping[str, Any] | None = None,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
    ) -> Walk:
        """Return a walk over the payments that the filters let through.

        Sorted by `createdAt` (the default, either way) the walk is exact: every payment that is in the list
        from its start to its end comes out exactly once, whatever is created, deleted or changed meanwhile.
        By another key nothing comes out twice, and `walk.report` says that completeness is not guaranteed.
        `page_size` is in rows, `concurrency` the most requests in flight. Nothing is sent before the first
        payment is asked for. With a `checkpoint` (of a page, a walk or a PaginationError) it goes on from
        there.

        `created_from` and `created_to` are aware datetimes: only payments created from the first on and
        before the second are given. The service has no such filter, so the walk looks for the first of them
        by reading a few single rows, and stops behind the last; it is as exact as any.

        Raises ConfigurationError for what the service would not take, and for a checkpoint of another list.
        """
        query = PaymentQuery(
            channel_ids=channel_ids,
            processing_status=processing_status,
            customer_name=customer_name,
            invoice_id=invoice_id,
            search_by=search_by,
            q=q,
            sort_by=sort_by,
            order_by=order_by,
        )
        return Walk(
            self._walker,
            query,
            offset=offset,
            page_size=page_size,
            concurrency=concurrency,
            checkpoint=checkpoint,
            period=Period(created_from, created_to),
        )

    def stream(
        self,
        *,
        channel_ids: Sequence[int] | None = None,
        processing_status: ProcessingStatus | int | None = None,
        customer_name: str | None = None,
        invoice_id: int | None = None,
        search_by: SearchBy | str | None = None,
        q: str | None = None,
        page_size: int = MOST_ROWS,
        concurrency: int = DEFAULT_CONCURRENCY,
        ordered: bool = False,
        checkpoint: Mapping[str, Any] | None = None,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
    ) -> PaymentStream:
        """Walk several channels at once and merge them: as they come, or channel by channel (`ordered`).

        `channel_ids` are BigCommerce's (`Channel.channel_id`); None is the whole store in one walk.
        `created_from` and `created_to` are those of `list`.
        `concurrency` bounds the requests in flight over all channels. Each channel's walk is exact.
        """
        query = PaymentQuery(
            channel_ids=channel_ids,
            processing_status=processing_status,
            customer_name=customer_name,
            invoice_id=invoice_id,
            search_by=search_by,
            q=q,
        )
        whole("concurrency", concurrency, least=1)
        period = Period(created_from, created_to)
        channels = query.channel_ids or (None,)
        # Pages held ready are shared out, so that many channels take no more memory than one.
        each = max(1, -(-concurrency // len(channels)))
        walks = {
            channel_id: Walk(
                self._walker,
                query if channel_id is None else attrs.evolve(query, channel_ids=(channel_id,)),
                page_size=page_size,
                concurrency=each,
                checkpoint=for_channel(checkpoint, channel_id),
                period=period,
            )
            for channel_id in channels
        }
        return PaymentStream(self._walker.tasks, walks, concurrency=concurrency, ordered=ordered)

    def changes(
        self,
        since: datetime | Mapping[str, Any] | None = None,
        *,
        follow: bool = False,
        interval: float = INTERVAL,
        overlap: float = OVERLAP,
    ) -> Changes:
        """Return what changes in the store: `Change(payment, checkpoint)`, the oldest change first.

        ::

            async for change in client.payments.changes(since=kept, follow=True):
                handle(change.payment)
                kept = change.checkpoint

        Each version of a payment (its id, `updated_at` and content) that lists show for longer than a poll
        takes to come round is given once: across restarts, too, where `since` is the checkpoint of the last
        change that was handled. A crash between handling a change and keeping its checkpoint repeats that
        change, and those handled since the one that was kept. What is allowed now, the names of customers and
        channels, and unknown fields are no content. A deletion cannot be seen: `sync` with a sweep finds it.

        `since` may also be an aware datetime, by the service's clock; None begins now. Without `follow` the
        feed ends with what lists show now. With it, it goes on for ever, and asks every `interval` seconds:
        one page, where nothing happened. It outlives a service that is down. `overlap` is in seconds, and has
        to be as wide as the lists' lag; a version that was written longer before than that is not found where
        the service is restored from a backup.

        Raises ConfigurationError for a checkpoint of another store, and what walks raise; with `follow` only
        what waiting does not help.
        """
        return Changes(self._walker, since, follow=follow, interval=interval, overlap=overlap)

    async def get(self, payment_id: int) -> Payment:
        """Return one payment. Raises NotFoundError where there is none."""
        reply = await self._walker.caller.call(requests.get_payment(payment_id))
        return structure_payment(reply.data)

    async def look_up(self, payment_id: int, *, tally: Tally | None = None) -> dict[str, Any] | None:
        """Return one payment as the service sent it, None where the service itself says that there is none.

        For those who compare what they have with the service: it gives way to calls that somebody waits for,
        as pages do. Raises NotFoundError for a 404 that is not the service's own, a gateway's. `tally` counts
        the requests.
        """
        return await look_up(self._walker.caller, payment_id, tally=tally)

    @property
    def mixed_up_lately(self) -> bool:
        """Whether this client got an answer to another request than its own in the last five minutes.

        A 404 does not say whose it is: one of those given by `look_up` meanwhile may be another payment's.
        """
        return self._walker.caller.mixups.lately

    async def delete(self, payment_id: int) -> None:
        """Delete a payment.

        Raises NotFoundError where there is none, OutcomeUnknownError where no answer came.
        """
        await self._writes.delete(payment_id)

    async def operations(self, payment_id: int) -> PaymentOperations:
        """Return the operations and processing statuses that the payment allows now."""
        reply = await self._walker.caller.call(requests.get_operations(payment_id))
        return structure(PaymentOperations, reply.data)

    async def perform_operation(self, payment_id: int, operation: Operation | int) -> None:
        """Carry out an operation, once. Raises BadRequestError where the payment does not allow it."""
        await self._writes.perform_operation(payment_id, operation)

    async def update_processing_status(self, payment_id: int, status: ProcessingStatus | int) -> None:
        """Set the processing status: documented are 1 to 4, and the vendor's example sends 0 [doc].

        Raises BadRequestError where the payment does not allow it.
        """
        await self._writes.update_processing_status(payment_id, status)

    async def transactions(self, payment_id: int) -> builtins.list[Transaction]:
        """Return the payment's transactions; their shape varies by gateway."""
        reply = await self._walker.caller.call(requests.get_transactions(payment_id))
        return structure_list(Transaction, reply.data)

    async def create_offline(self, payment: OfflinePayment, *, unless_exists: bool = False) -> int:
        """Record an offline payment, once, and give its id.

        Give it an `external_id` that no other payment has: should the answer get lost, the payment is looked
        for by it. Raises ValidationError, or OutcomeUnknownError where looking did not settle it.

        With `unless_exists` it can be called again and again: it looks first, and gives the id of the payment
        that has this external id, customer, currency and sum. In one process one such call at a time looks
        and creates, and what it created is known before lists show it; what another process created in the
        last 20 minutes or so, a list may not show yet [seen]. Raises ConfigurationError without an
        `external_id`, ExternalIdTakenError where the payment that has it is another, PaginationError where
        the service's search cannot be read to its end, and OutcomeUnknownError where an earlier create of
        this process is in doubt: until lists have to show it, it is not sent again.
        """
        creates = Creates(self._writes, self._walker)
        return await creates.create_offline(offline_payment_body(payment), unless_exists=unless_exists)

    async def settle(self, error: OutcomeUnknownError) -> int | None:
        """Look again for what became of a write: the payment's id where it was carried out, else None.

        `error` may come from another process and another day, pickled. A create is looked for by its
        external id; any other write is judged by what its payment shows now, which another write may have
        changed since. None says that nothing shows it: lists may lag a create by about 20 minutes [seen].

        Raises ConfigurationError for a write of another store and for a create without an `external_id`,
        PaginationError where the service's search cannot be read to its end, and `error` itself where
        nothing can show it: an operation other than applying and reverting.
        """
        given: object = error
        write = given.write if isinstance(given, OutcomeUnknownError) else {}
        if not write:
            raise ConfigurationError(
                "settle() takes the OutcomeUnknownError of a write to payments, as it was raised; of "
                "client.request() only you can tell what became."
            )
        if write["store"] != self._walker.store:
            raise ConfigurationError(
                f"The write was sent to {write['store']}, and this client is of {self._walker.store}: "
                "settle it with a client of the same store."
            )
        until = self._walker.caller.until()
        creates = Creates(self._writes, self._walker)
        return await (self._writes if write["id"] else creates).settle(error, until)

    async def update_offline(self, payment_id: int, payment: OfflinePayment) -> int:
        """Replace an offline payment, and give its id. Raises ValidationError, NotFoundError."""
        return await self._writes.update_offline(payment_id, offline_payment_body(payment))
