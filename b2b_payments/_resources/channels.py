"""The channels of a store: `client.channels`."""

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
        """Return all channels; an empty list if the service says that multi-storefront is not enabled.

        Pass `Channel.channel_id`, not `Channel.id`, as `channel_ids`. Raises APIError, TransportError and
        ResponseDecodeError.
        """
        try:
            reply = await self._caller.call(requests.list_channels())
        except APIError as error:
            # 403 and 422 have many causes; only this text means that there are no channels [doc].
            if error.status in {403, 422} and says_single_storefront(error):
                return []
            raise
        return structure_list(Channel, reply.data)

    async def get(self, channel_id: int) -> Channel:
        """Return one channel, by BigCommerce's id (`Channel.channel_id`).

        Raises NotFoundError if it does not exist, PermissionDeniedError [doc] or ValidationError [seen] for a
        store without multi-storefront, APIError, TransportError and ResponseDecodeError.
        """
        reply = await self._caller.call(requests.get_channel(channel_id))
        return structure(Channel, reply.data)


def says_single_storefront(error: APIError) -> bool:
    """Whether an error says that multi-storefront is not enabled."""
    texts = [error.message, *(text for texts in error.errors.values() for text in texts)]
    return any(_SINGLE_STOREFRONT in text.lower() for text in texts)
