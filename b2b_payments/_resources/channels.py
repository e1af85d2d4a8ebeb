"""`client.channels`."""

from __future__ import annotations

from b2b_payments._call import Caller
from b2b_payments._converter import structure, structure_list
from b2b_payments._errors import APIError
from b2b_payments._models import Channel
from b2b_payments._printable import frozen
from b2b_payments._protocol import request as requests

_SINGLE_STOREFRONT = "multi storefront is not enabled"


@frozen
class Channels:
    """The store's channels."""

    _caller: Caller

    async def list(self) -> list[Channel]:
        """Return all channels; none for a store without multi-storefront, where the service says just that.

        `Channel.channel_id` is what `channel_ids` takes. Raises APIError, TransportError and
        ResponseDecodeError.
        """
        try:
            reply = await self._caller.call(requests.list_channels())
        except APIError as error:
            # 403 and 422 mean many things; only these words mean that there are no channels [doc].
            if error.status in {403, 422} and says_single_storefront(error):
                return []
            raise
        return structure_list(Channel, reply.data)

    async def get(self, channel_id: int) -> Channel:
        """Return one channel, by BigCommerce's id (`Channel.channel_id`).

        Raises NotFoundError where there is none, PermissionDeniedError for a store without
        multi-storefront [doc] (ValidationError [seen]), APIError, TransportError and ResponseDecodeError.
        """
        reply = await self._caller.call(requests.get_channel(channel_id))
        return structure(Channel, reply.data)


def says_single_storefront(error: APIError) -> bool:
    """Whether a refusal says that the store has no multi-storefront."""
    texts = [error.message, *(text for texts in error.errors.values() for text in texts)]
    return any(_SINGLE_STOREFRONT in text.lower() for text in texts)
