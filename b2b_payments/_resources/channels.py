"""The channels of a store: `client.channels`."""

from __future__ import annotations

from functools import partial

from b2b_payments._call import Caller
from b2b_payments._converter import structure, structure_list
from b2b_payments._errors import APIError
from b2b_payments._models import Channel
from b2b_payments._printable import frozen
from b2b_payments._protocol import request as requests
from b2b_payments._resources.reads import read

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
            return await read(self._caller, requests.list_channels(), partial(structure_list, Channel))
        except APIError as error:
            # 403 and 422 have many causes; only this text means that there are no channels [doc].
            if error.status in {403, 422} and says_single_storefront(error):
                return []
            raise

    async def get(self, channel_id: int) -> Channel:
        """Return one channel, by BigCommerce's id (`Channel.channel_id`).

        Raises NotFoundError if it does not exist, PermissionDeniedError [doc] or ValidationError [seen] for a
        store without multi-storefront, APIError, TransportError and ResponseDecodeError.
        """
        return await read(self._caller, requests.get_channel(channel_id), partial(structure, Channel))


def says_single_storefront(error: APIError) -> bool:
    """Whether an error says that multi-storefront is not enabled."""
    texts = [error.message, *(text for texts in error.errors.values() for text in texts)]
    return any(_SINGLE_STOREFRONT in text.lower() for text in texts)
