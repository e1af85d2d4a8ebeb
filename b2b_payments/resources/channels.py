"""`client.channels`."""

from __future__ import annotations

import attrs

from b2b_payments.call import Caller
from b2b_payments.converter import structure_channels
from b2b_payments.errors import APIError
from b2b_payments.models import Channel
from b2b_payments.protocol import request as requests

_SINGLE_STOREFRONT = "multi storefront is not enabled"


@attrs.frozen
class Channels:
    """The store's channels."""

    _caller: Caller

    async def list(self) -> list[Channel]:
        """Give all channels; none for a store without multi-storefront, where the service says just that.

        `Channel.channel_id` is what `channel_ids` takes. Raises APIError, TransportError and
        ResponseDecodeError.
        """
        try:
            reply = await self._caller.call(requests.list_channels())
        except APIError as error:
            # 403 and 422 mean many things; only these words mean that there are no channels [doc].
            if error.status in {403, 422} and _says_single_storefront(error):
                return []
            raise
        return structure_channels(reply.data)


def _says_single_storefront(error: APIError) -> bool:
    texts = [error.message, *(text for texts in error.errors.values() for text in texts)]
    return any(_SINGLE_STOREFRONT in text.lower() for text in texts)
