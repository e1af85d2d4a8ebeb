"""A storefront channel."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import attrs

from b2b_payments._models.answer_model import AnswerModel
from b2b_payments._models.description import DIGITS, LENIENT
from b2b_payments._models.extra import Extra, extra_of
from b2b_payments._models.moment import in_utc
from b2b_payments._printable import frozen


def _optional_moment(moment: datetime | None) -> datetime | None:
    return None if moment is None else in_utc(moment)


@frozen(kw_only=True)
class Channel(AnswerModel):
    """A channel of a store with several storefronts.

    `channel_id` is BigCommerce's id, which `channel_ids` filters by; `id` is B2B Edition's own [doc].
    `created_at` and `updated_at` are aware, in UTC. `site` is kept as received.
    """

    id: int
    channel_id: int
    name: str = attrs.field(default="", metadata={"aliases": ("channelName",)})
    type: str = ""
    platform: str = attrs.field(default="", metadata=LENIENT)
    status: str = ""
    site: Any = attrs.field(default=None, hash=False)
    is_visible: bool | None = None
    is_enabled: bool | None = None
    b2b_enabled: bool | None = None
    allow_global_logins: bool | None = None
    icon_url: str | None = None
    created_at: datetime | None = attrs.field(default=None, converter=_optional_moment, metadata=DIGITS)
    updated_at: datetime | None = attrs.field(default=None, converter=_optional_moment, metadata=DIGITS)
    extra: Extra = attrs.field(factory=Extra, converter=extra_of, hash=False)
