"""The payments of a store: `client.payments`."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
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
from b2b_payments._protocol.json import decode_part
from b2b_payments._protocol.query import PaymentQuery
from b2b_payments._resources.creates import Creates
from b2b_payments._resources.reads import read
from b2b_payments._resources.writes import Writes
from b2b_payments._walk.checkpoint import for_channel
from b2b_payments._walk.period import Period
from b2b_payments._walk.source import MAX_ROWS, look_up
from b2b_payments._walk.stream import PaymentStream
from b2b_payments._walk.walk import DEFAULT_CONCURRENCY, Walk, Walker


@frozen
class Payments:
    """The store's payments.

    Every method that sends a request may raise APIError, TransportError or ResponseDecodeError, and
    ConfigurationError if an argument is invalid or the client is not open.
    """

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
        page_size: int = MAX_ROWS,
        concurrency: int = DEFAULT_CONCURRENCY,
        checkpoint: Mapping[str, Any] | None = None,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
    ) -> Walk:
        """Return a walk over the payments that match all filters. Nothing is sent until it is iterated.

        ::

            async for payment in client.payments.list(processing_status=ProcessingStatus.COMPLETED):
                print(payment.id, payment.total)

        Sorted by `createdAt` (the default, in either direction) the walk is exact: it yields every payment
        that is in the list from start to end exactly once, whatever is created, deleted or changed meanwhile.
        Sorted by another key it yields none twice, and `walk.report` says that rows may be missing.

        `channel_ids` are BigCommerce's (`Channel.channel_id`). `q` are keywords, searched for in the field
        `search_by`, or in all searchable fields. `offset` skips rows of the list, `page_size` is in rows, and
        `concurrency` is the most requests in flight. `checkpoint`, from a page, a walk or a PaginationError,
        resumes where that stopped.

        `created_from` (inclusive) and `created_to` (exclusive) are aware datetimes. The service has no such
        filter: the walk finds the first payment by reading a few single rows and stops after the last, and is
        as exact as without them.

        Raises ConfigurationError for an invalid argument or a checkpoint of another list; iterating raises
        PaginationError if the pages cannot be joined exactly.
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
        page_size: int = MAX_ROWS,
        concurrency: int = DEFAULT_CONCURRENCY,
        ordered: bool = False,
        checkpoint: Mapping[str, Any] | None = None,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
    ) -> PaymentStream:
        """Return one stream of several channels' payments, which are walked concurrently.

        ::

            async for payment in client.payments.stream(channel_ids=[1, 2]):
                print(payment.channel_id, payment.id)

        Each channel's walk is exact, and no payment is yielded twice. Payments are yielded as they are
        received, or channel by channel if `ordered`. `channel_ids` are BigCommerce's (`Channel.channel_id`);
        None walks the whole store once. `concurrency` is the most requests in flight for all channels
        together. The other arguments and the errors are those of `list`.
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
        # The pages that are fetched ahead are divided up, so that many channels take no more memory than one.
        per_channel = max(1, -(-concurrency // len(channels)))
        walks = {
            channel_id: Walk(
                self._walker,
                query if channel_id is None else attrs.evolve(query, channel_ids=(channel_id,)),
                page_size=page_size,
                concurrency=per_channel,
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
        """Return the changes of the store's payments, oldest first, as `Change(payment, checkpoint)`.

        ::

            async for change in client.payments.changes(since=saved, follow=True):
                handle(change.payment)
                saved = change.checkpoint

        Each version of a payment (its id, `updated_at` and content) that the lists show for longer than a
        poll and its interval is yielded once, also across restarts if `since` is the checkpoint of the last
        change that was handled. After a crash, the changes handled since the last saved checkpoint are
        repeated. Allowed operations and statuses, the names of customers and channels, and unknown fields do
        not count as content. Deletions are not visible in the lists: `sync` with a sweep finds them.

        `since` may also be an aware datetime, by the service's clock; None starts now. Without `follow` the
        feed ends once it has read what the lists show now. With `follow` it never ends: it polls every
        `interval` seconds, at the cost of one page if nothing changed, and survives outages. `overlap`, in
        seconds, must cover the lists' lag, about 20 minutes [seen]. After the service is restored from a
        backup, versions older than the overlap are not found.

        Raises ConfigurationError for a checkpoint of another store. Iterating raises what a walk raises; with
        `follow`, only errors that waiting cannot resolve.
        """
        return Changes(self._walker, since, follow=follow, interval=interval, overlap=overlap)

    async def get(self, payment_id: int) -> Payment:
        """Return one payment. Raises NotFoundError if it does not exist, or the credential may not see it."""
        return await read(self._writes.caller, requests.get_payment(payment_id), structure_payment)

    async def look_up(self, payment_id: int, *, tally: Tally | None = None) -> dict[str, Any] | None:
        """Return one payment as the service's own JSON object; None if it does not exist.

        For comparing a copy with the service: like a walk's pages, it lets other calls go first. `tally`
        counts its requests. Raises NotFoundError for a 404 from a gateway instead of the service itself.
        """
        text = await self.look_up_text(payment_id, tally=tally)
        return None if text is None else decode_part(text)

    async def look_up_text(self, payment_id: int, *, tally: Tally | None = None) -> bytes | None:
        """Return one payment's JSON as the service wrote it. Otherwise like `look_up`."""
        caller = self._walker.caller if tally is None else attrs.evolve(self._walker.caller, tally=tally)
        return await look_up(caller, payment_id)

    @property
    def recently_mixed_up(self) -> bool:
        """Whether this client received an answer to a different request in the last five minutes.

        A 404 does not name its payment: while this is True, a None from `look_up` may be another payment's.
        """
        return self._walker.caller.mixups.recent

    async def delete(self, payment_id: int) -> None:
        """Delete a payment. If the answer is lost, a payment that no longer exists counts as deleted.

        Raises NotFoundError if it does not exist, and OutcomeUnknownError if the outcome is not known.
        """
        await self._writes.delete(payment_id)

    async def operations(self, payment_id: int) -> PaymentOperations:
        """Return the operations and processing statuses that the payment currently allows.

        Raises NotFoundError if the payment does not exist.
        """
        request = requests.get_operations(payment_id)
        return await read(self._writes.caller, request, partial(structure, PaymentOperations))

    async def perform_operation(self, payment_id: int, operation: Operation | int) -> None:
        """Carry out an operation, at most once.

        If the answer is lost, applying and reverting are judged by what the payment allows afterwards. Raises
        BadRequestError if the payment does not allow it, and OutcomeUnknownError if the outcome is not known.
        """
        await self._writes.perform_operation(payment_id, operation)

    async def update_processing_status(self, payment_id: int, status: ProcessingStatus | int) -> None:
        """Set the processing status: 1 to 4 are documented, and the vendor's example sends 0 [doc].

        Raises BadRequestError if the payment does not allow it, and OutcomeUnknownError if the outcome is not
        known.
        """
        await self._writes.update_processing_status(payment_id, status)

    async def transactions(self, payment_id: int) -> builtins.list[Transaction]:
        """Return the payment's transactions; their fields vary by payment gateway.

        Raises NotFoundError if the payment does not exist.
        """
        request = requests.get_transactions(payment_id)
        return await read(self._writes.caller, request, partial(structure_list, Transaction))

    async def create_offline(self, payment: OfflinePayment, *, unless_exists: bool = False) -> int:
        """Record an offline payment, at most once, and return its id.

        ::

            items = [OfflineLineItem(invoice_id=13, amount=Decimal("20.00"))]
            payment = OfflinePayment(
                customer_id="95000", currency="USD", line_items=items, external_id="INV-7"
            )
            payment_id = await client.payments.create_offline(payment, unless_exists=True)

        Use an `external_id` that no other payment has: if the answer is lost, the payment is searched for by
        it. Raises ValidationError if the service rejects the data, and OutcomeUnknownError if the answer is
        lost and the search does not find the payment.

        With `unless_exists` the call can be repeated safely: it searches first, and returns the id of a
        payment with the same external id, customer, currency and sum. Within a process, calls for the same
        external id run one at a time, and what they created is remembered until the lists must show it. A
        payment that another process created in the last 20 minutes or so may not be found [seen]. Also raises
        ConfigurationError without an `external_id`, ExternalIdTakenError if a different payment has it,
        PaginationError if the search cannot be read to its end, and OutcomeUnknownError (nothing is sent)
        while the outcome of this process's earlier create is unknown and the lists may still lag.
        """
        body = offline_payment_body(payment)
        return await Creates.begin(self._writes, self._walker).create_offline(
            body, unless_exists=unless_exists
        )

    async def settle(self, error: OutcomeUnknownError) -> int | None:
        """Check again whether a write was carried out: return the payment's id if it was, else None.

        ::

            except OutcomeUnknownError as error:
                payment_id = await client.payments.settle(error)

        `error` may be days old and unpickled in another process. A create is searched for by its external id;
        any other write is judged by its payment's current state, which a later write may have changed. None
        means that nothing shows the write; for a create, believe it only after the lists' lag of about 20
        minutes [seen].

        Raises ConfigurationError for a write to another store or a create without an `external_id`,
        PaginationError if the search cannot be read to its end, and `error` itself if nothing can show the
        outcome, as for an operation other than applying and reverting.
        """
        unchecked: object = error
        write = unchecked.write if isinstance(unchecked, OutcomeUnknownError) else {}
        if not write:
            raise ConfigurationError(
                "settle() takes the OutcomeUnknownError that a method of client.payments raised; the outcome "
                "of a client.request() cannot be checked for you."
            )
        if write["store"] != self._walker.store:
            raise ConfigurationError(
                f"The write was sent to {write['store']}, but this client is for {self._walker.store}: "
                "settle it with a client for the same store."
            )
        creates = Creates.begin(self._writes, self._walker)
        return await (self._writes if write["id"] else creates).settle(error)

    async def update_offline(self, payment_id: int, payment: OfflinePayment) -> int:
        """Replace an offline payment, and return its id. Fields that are None get their defaults [doc].

        Raises ValidationError if the service rejects the data, NotFoundError if the payment does not exist,
        and OutcomeUnknownError if the outcome is not known.
        """
        return await self._writes.update_offline(payment_id, offline_payment_body(payment))
