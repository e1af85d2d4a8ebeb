"""How the sandbox behaves where the real service is documented in contradictory ways, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from http import HTTPStatus
from typing import Any, Literal, get_args, get_origin, get_type_hints

import attrs

from b2b_payments._errors import ConfigurationError
from b2b_payments._printable import frozen

ChannelEncoding = Literal["repeat", "repeat-last", "brackets", "brackets-comma", "comma"]
RefusalHeader = Literal["documented", "retry-after", "retry-after-date", "x-retry-after", "rate-limit"]
Method = Literal["GET", "POST", "PUT", "DELETE"]
Authentication = Literal["store", "legacy"]
ListParameter = Literal[
    "offset", "limit", "sortBy", "orderBy", "searchBy", "q", "customerName", "invoiceId", "processingStatus",
    "channelIds",
]  # fmt: skip
Hides = Callable[[Mapping[str, Any]], bool]
_SUCCESSES = {int(status) for status in HTTPStatus if 200 <= status < 300}


def _as_set(value: Collection[str]) -> frozenset[str]:
    return frozenset({value} if isinstance(value, str) else value)


def _ids_or_none(value: Collection[int] | None) -> frozenset[int] | None:
    return None if value is None else frozenset(value)


def _ids_or_predicate(value: Collection[int] | Hides) -> frozenset[int] | Hides:
    return value if callable(value) else frozenset(value)


def _at_least(least: float) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and not callable(value) and not value >= least:
            raise ConfigurationError(f"Rules({attribute.name}={value!r}) must be at least {least}.")

    return check


def _successes(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    statuses = value.values() if isinstance(value, Mapping) else [value]
    methods = set(value) if isinstance(value, Mapping) else set()
    if not all(status in _SUCCESSES for status in statuses) or not methods <= set(get_args(Method)):
        raise ConfigurationError(
            f"Rules({attribute.name}={value!r}): give HTTP statuses of 200 to 299, one for all or by method."
        )


@frozen(kw_only=True)
class Rules:
    """The rules of a sandbox. The defaults are the documented service; `attrs.evolve` creates variants.

    Quota
        `quota` turns it on. `requests` are admitted in each `per` seconds of the event loop's clock, in a
        `window` that is sliding, or fixed and opened by its first request, or by a bucket that leaks evenly
        ("leaky", GCRA: it resets when it is empty) [open]. Another integration spends `others_per_window` of
        them, evenly spread. `quota_headers` adds the documented headers to every answer [doc].
        `refusal_headers` are those of a 429 [open]: "documented" (X-Requests-…), "retry-after" in seconds,
        "retry-after-date", and "x-retry-after" and "rate-limit" (X-Rate-Limit-…) as in BigCommerce's core
        API. `refusal_wait` is the wait in seconds that a 429 asks for if no window determines it (if it was
        ordered as a fault, or is due to `concurrent`). `concurrent` is the maximum number of requests carried
        out at the same time [doc].

    Lists
        A page has up to `max_limit` rows; a larger limit is clamped or refused with 413 (`over_limit`) [doc,
        both]. `echo` is the limit that the answer states: the effective one, the requested one, or none.
        `short_pages` is the probability that a page holds fewer rows than it could, or a function from that
        number of rows to the actual one. `equals` is the order among rows with the same sort key: reversed
        with the list ("stable"), the same in both directions ("one way"), or different at each request
        ("shuffled"). Without `sortBy` and `orderBy` the list is sorted by id, in the `default_order` [open].
        `search` defines which texts `q` finds: those that contain it, except that ids are found whole where
        `searchBy` names them, or parts of these, too ("parts"), or those that share a word with it, ignoring
        case ("words"), as search engines do [open]. `ignores` names query parameters that the list ignores
        [open]; if it ignores `orderBy`, the order is `ignored_order`, and if it ignores `sortBy`, the list
        is sorted by id. `list_lag` is how many seconds lists lag a write [seen], or a function that returns
        them for each write: then lists may show writes out of order, but never those of one payment.
        `channel_encoding` names the accepted encodings of `channelIds`; `other_channel_encodings` defines
        what happens with others [open]: they are ignored, so rows of every channel are returned ("ignore"),
        they match no rows ("nothing"), or they are refused with a status (422 names the field, 400 does
        not). "repeat-last" uses only the last of a repeated key, as many servers do. `default_channels` are
        the channels of a list without `channelIds`; None means all [open]. `unknown_channels` are those that
        the store does not have: they match no rows, or are refused with a status [open]. `sparse_lists`
        leaves `fees`, `details`, `moduleData`, `allowed…` and the amounts of line items out of some rows
        in lists [doc]; it is off by default, so that a list's row equals `Store.wire`. `ids_as` formats ids
        as numbers, as numbers with a fraction (``70.0``, as proxies that read JSON write them), or as
        strings [seen].

    Shapes
        `fees_as` are the objects of the older specification, or the numbers of the newer one [doc].
        `empties_as` "swapped" writes an empty object as ``[]`` and an empty list as ``{}`` in payments, as
        PHP may [seen]. `channel_times_as` writes a channel's times as epoch seconds, in digits or as a
        number, or in ISO 8601; `channel_name` is the name of its name field [doc, all]. `site_as` "text"
        writes a site as its URL alone. `payment_channels` is how payments name their channel: in digits, or
        not at all, as null, in an empty text or without the field [doc].

    Lists that contradict the store
        `total_count` is the number of filtered rows, or of all rows of the store, or absent [open]; or the
        number of rows on the page ("page"), or a different number near the true one in each answer
        ("wandering"). It never exceeds `total_cap`. `paging_window` is the position from which on no rows are
        returned, in either direction, whatever the total says: common with search engines. Pages that reach
        beyond it are truncated, or refused with the status `beyond_window`. `hidden` are rows that the
        token's scope does not show, as ids or as a predicate of the service's own object: they are in no list
        and no count, and every request for one of them is answered with 404, as if the payment did not exist.
        `shown` limits all lists to that many rows, the oldest ones: the lists agree with one another in both
        directions, and with their totals, although the other payments can be read by id. See also
        `Fault.EMPTY_LIST`, and `Store.restore` for a service that was restored from a backup.

    Answers mixed up
        An unrequested answer on a connection (`Fault.STRAY`, `DOUBLED`, `LATE`) is sent `stray_after` seconds
        after the proper one; None holds it back until the next request on that connection, and sends it
        before that request's answer. `Fault.SWAPPED` swaps an answer with the next one that is given within
        `swap_within` seconds, if there is one. `echo_offset` is the offset that a list's answer states: the
        requested one ("asked"), always 0 ("zero"), the requested one but at most the number of rows
        ("clamped"), or none. `written_ids` are the ids in the answers to writes, except creates: "right",
        "absent", or always "wrong".

    Other
        `success_status` is the HTTP status of a success, one for all or by method: 201 for POST, 202, or 204,
        which has no body [doc]. `without_body` are further methods whose success has no body. `success_code`
        is the `code` in the body; None means the HTTP status. If `multi_storefront` is off, GET /channels and
        GET /channels/{channelId} are answered with `single_storefront_status`, and a few payments have no
        channel. `missing_scope_status` answers every request with a valid token with 401, 403 or 404 [seen].
        `content_type_required` answers 415 to a request without `Content-Type: application/json` [doc].
        `field_errors` defines how invalid fields are reported, with `field_errors_status`: by the names in
        the request, or in snake_case, with line items one by one, `{"line_items": [{}, {"invoice_id":
        ["…"]}]}` [doc, seen]. `unavailable_wait` is the wait in seconds that a 503 asks for (`Retry-After`).
        Each answer takes at least `latency` seconds. `drip_interval` is the number of seconds between two
        bytes of `Fault.DRIP`. `redirect_to` is the target of `Fault.REDIRECT`. `date_header` adds HTTP's
        `Date` to every answer: the store's own clock, which also sets createdAt and updatedAt.

    Raises `ConfigurationError` for an unknown or invalid value.
    """

    quota: bool = attrs.field(default=True, converter=bool)
    requests: int = attrs.field(default=150, validator=_at_least(1))
    per: float = attrs.field(default=60.0, validator=_at_least(1e-6))
    window: Literal["sliding", "fixed", "leaky"] = "sliding"
    others_per_window: int = attrs.field(default=0, validator=_at_least(0))
    quota_headers: bool = True
    refusal_headers: Collection[RefusalHeader] = attrs.field(default=("documented",), converter=_as_set)
    refusal_wait: float = attrs.field(default=1.0, validator=_at_least(0))
    concurrent: int | None = attrs.field(default=None, validator=_at_least(1))

    max_limit: int = attrs.field(default=250, validator=_at_least(1))
    over_limit: Literal["clamp", "refuse"] = "clamp"
    echo: Literal["effective", "asked"] | None = "effective"
    short_pages: float | Callable[[int], int] = attrs.field(default=0.0, validator=_at_least(0))
    equals: Literal["stable", "one way", "shuffled"] = "stable"
    list_lag: float | Callable[[], float] = attrs.field(default=0.0, validator=_at_least(0))
    search: Literal["contains", "parts", "words"] = "contains"
    ignores: Collection[ListParameter] = attrs.field(default=(), converter=_as_set)
    ignored_order: Literal["ASC", "DESC"] = "ASC"
    default_order: Literal["ASC", "DESC"] = "DESC"
    total_count: Literal["filtered", "store", "absent", "page", "wandering"] = "filtered"
    total_cap: int | None = attrs.field(default=None, validator=_at_least(0))
    paging_window: int | None = attrs.field(default=None, validator=_at_least(0))
    beyond_window: Literal[400, 404, 422] | None = None
    hidden: Collection[int] | Hides = attrs.field(default=(), converter=_ids_or_predicate)
    shown: int | None = attrs.field(default=None, validator=_at_least(0))
    channel_encoding: Collection[ChannelEncoding] = attrs.field(default=("repeat",), converter=_as_set)
    other_channel_encodings: Literal["ignore", "nothing", 400, 422] = "ignore"
    default_channels: Collection[int] | None = attrs.field(default=None, converter=_ids_or_none)
    unknown_channels: Literal["nothing", 400, 404, 422] = "nothing"
    sparse_lists: bool = False
    ids_as: Literal["number", "fraction", "string"] = "number"

    fees_as: Literal["objects", "numbers"] = "objects"
    empties_as: Literal["own", "swapped"] = "own"
    channel_times_as: Literal["digits", "number", "iso"] = "digits"
    channel_name: Literal["name", "channelName"] = "name"
    site_as: Literal["object", "text"] = "object"
    payment_channels: Literal["digits", "null", "empty", "absent"] = "digits"

    stray_after: float | None = attrs.field(default=0.0, validator=_at_least(0))
    swap_within: float = attrs.field(default=0.05, validator=_at_least(0))
    echo_offset: Literal["asked", "zero", "clamped"] | None = "asked"
    written_ids: Literal["right", "absent", "wrong"] = "right"

    success_status: int | Mapping[Method, int] = attrs.field(default=200, validator=_successes)
    success_code: int | None = None
    without_body: Collection[Method] = attrs.field(default=(), converter=_as_set)
    multi_storefront: bool = True
    single_storefront_status: Literal[403, 422] = 422
    missing_scope_status: Literal[401, 403, 404] | None = None
    authentication: Collection[Authentication] = attrs.field(default=("store", "legacy"), converter=_as_set)
    content_type_required: bool = False
    field_errors: Literal["flat", "nested"] = "flat"
    field_errors_status: Literal[422, 400] = 422
    unavailable_wait: float | None = attrs.field(default=None, validator=_at_least(0))
    latency: float = attrs.field(default=0.0, validator=_at_least(0))
    drip_interval: float = attrs.field(default=0.01, validator=_at_least(0))
    redirect_to: str = "https://elsewhere.invalid/"
    date_header: bool = True

    def __attrs_post_init__(self) -> None:
        for name, allowed in _known_values().items():
            value = getattr(self, name)
            values = value if isinstance(value, frozenset) else {value}
            if not values <= set(allowed):
                known = ", ".join(map(repr, allowed))
                raise ConfigurationError(f"Rules({name}={value!r}) is unknown; choose from {known}.")


@cache
def _known_values() -> Mapping[str, Sequence[object]]:
    """Return the known values of each rule whose type lists them."""
    return {name: values for name, kind in get_type_hints(Rules).items() if (values := _values_in(kind))}


def _values_in(kind: Any) -> Sequence[object]:
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return parts
    if get_origin(kind) is Mapping:
        return ()
    values = [value for part in parts for value in _values_in(part)]
    return [*values, None] if values and type(None) in parts else values
