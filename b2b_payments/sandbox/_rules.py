"""How the sandbox's service behaves, where the real one is documented in two ways, or not at all."""

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


def _words(value: Collection[str]) -> frozenset[str]:
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
    """The rules in force. The defaults are the documented service; `attrs.evolve` makes others from them.

    Quota
        `quota` switches it on. `requests` are let through in each `per` seconds of the loop's clock, over a
        `window` that slides, or that is fixed and opened by its first request, or from a bucket that leaks
        evenly ("leaky", GCRA: the reset is when it is empty again) [open]. `others_per_window` of them
        are spent by another integration, spread evenly. `quota_headers` puts the documented headers on every
        answer [doc]. `refusal_headers` are those a 429 carries [open]: "documented" (X-Requests-…),
        "retry-after" in seconds, "retry-after-date", and "x-retry-after" and "rate-limit" (X-Rate-Limit-…)
        of BigCommerce's core API. `refusal_wait` is what a 429 says to wait, in seconds, where no window
        tells (one ordered as a fault, or for `concurrent`). `concurrent` is the most requests carried out at
        once [doc].

    Lists
        `max_limit` rows a page; more are clamped or refused with 413 (`over_limit`) [doc, both]. `echo` says
        which limit the answer states: the effective one, the one asked for, or none. `short_pages` is the
        probability that a page holds fewer rows than it could, or a function from that number of rows to the
        one given. `equals` is the order among rows of the same sort key: turned round with the list
        ("stable"), the same in both directions ("one way"), or another at each request ("shuffled").
        Without `sortBy` and `orderBy` the list comes by id, in the `default_order` [open].
        `search` says which texts `q` finds: those that contain it, or those that share a word with it, in any
        case ("words"), as search engines do [open].
        `ignores` names query parameters that the list ignores [open]; without `orderBy` its order is
        `ignored_order`, without `sortBy` it is that of the ids.
        `list_lag` is how many seconds lists lag a write [seen], or a function that gives them for each write:
        then lists may show writes out of order, though never those of one payment. `channel_encoding` names
        the ways to write `channelIds` that are understood; `other_channel_encodings` says what becomes of
        others [open]: they are ignored, and rows of every channel come back ("ignore"), they find no rows
        ("nothing"), or they are refused with a status, of which 422 names the field and 400 does not.
        "repeat-last" takes the last of a repeated key alone, as many servers do. `default_channels` are those
        whose payments a list shows that names none: all where it is None [open]. `sparse_lists` leaves
        `fees`, `details`, `moduleData`, `allowed…` and the amounts of line items out of some rows in lists
        [doc]; off by default, so that a list's row equals `Store.wire`. `ids_as` spells ids as numbers
        or strings [seen].

    Shapes
        `fees_as` are the objects of the older specification, or the numbers of the newer one [doc].
        `empties_as` "swapped" spells an empty object ``[]`` and an empty list ``{}`` in payments, as PHP may
        [seen]. `channel_times_as` spells a channel's times as epoch seconds, in digits or as a number, or in
        ISO 8601; `channel_name` is the name of its field [doc, all]. `site_as` "text" is a site's URL alone.

    Lists that contradict the store
        `total_count` counts the filtered rows, or all of the store, or is absent [open]; or it is the number
        of the page's own rows ("page"), or another number near the true one at each answer ("wandering").
        It is never above `total_cap`. `paging_window` is the position from which on no rows come, in either
        direction, whatever the total says: usual behind search engines. Pages that reach beyond it are cut
        there, or refused with the status `beyond_window`. `hidden` are rows that the token's
        scope does not show, as ids or as a predicate that takes the service's own object: they are in no list
        and no count, and every request for one of them is answered 404, as for a payment that does not exist.
        `shown` is how many rows, the oldest, all lists are made of: they agree with one another in both
        directions, and with their totals, though the others can be read by id. See also `Fault.EMPTY_LIST`,
        and `Store.restore` for a service that was restored from a backup.

    Answers mixed up
        What follows an answer on its connection unasked (`Fault.STRAY`, `DOUBLED`, `LATE`) comes
        `stray_after` seconds later; None holds it back until the next request on that connection, where it
        comes in front of the answer. `Fault.SWAPPED` exchanges an answer with the next one that is given
        within `swap_within` seconds, and none if there is none. `echo_offset` is the offset that a list's
        answer states: the one "asked" for, "zero" always, the one asked for but at most the number of rows
        ("clamped"), or none. `written_ids` are those in the answers to writes, except of a create: "right",
        "absent", or always "wrong".

    The rest
        `success_status` is the HTTP status of a success, one for all or by method: 201 for POST, 202, or 204,
        which has no body [doc]. `without_body` are further methods whose success has none. `success_code` is
        the `code` in its body; None is the HTTP status again.
        `multi_storefront` off answers GET /channels and GET /channels/{channelId} with
        `single_storefront_status`, and a few payments have no channel. `missing_scope_status` answers every
        request of a valid token with 401, 403 or 404 [seen]. `content_type_required` answers 415 to a request
        that does not say `Content-Type: application/json` [doc]. `field_errors` says how wrong fields are
        told, with `field_errors_status`: by the names of the request, or in snake_case, with line items one
        by one, `{"line_items": [{}, {"invoice_id": ["…"]}]}` [doc, seen].
        `unavailable_wait` is what a 503 says to wait, in seconds (`Retry-After`).
        `latency` seconds go by before each answer. `drip_interval` seconds lie between two bytes of
        `Fault.DRIP`. `redirect_to` is where `Fault.REDIRECT` points. `date_header` puts HTTP's `Date` on
        every answer: the store's own clock, in which createdAt and updatedAt are written.

    Raises `ConfigurationError` for a value that the sandbox does not know.
    """

    quota: bool = attrs.field(default=True, converter=bool)
    requests: int = attrs.field(default=150, validator=_at_least(1))
    per: float = attrs.field(default=60.0, validator=_at_least(1e-6))
    window: Literal["sliding", "fixed", "leaky"] = "sliding"
    others_per_window: int = attrs.field(default=0, validator=_at_least(0))
    quota_headers: bool = True
    refusal_headers: Collection[RefusalHeader] = attrs.field(default=("documented",), converter=_words)
    refusal_wait: float = attrs.field(default=1.0, validator=_at_least(0))
    concurrent: int | None = attrs.field(default=None, validator=_at_least(1))

    max_limit: int = attrs.field(default=250, validator=_at_least(1))
    over_limit: Literal["clamp", "refuse"] = "clamp"
    echo: Literal["effective", "asked"] | None = "effective"
    short_pages: float | Callable[[int], int] = attrs.field(default=0.0, validator=_at_least(0))
    equals: Literal["stable", "one way", "shuffled"] = "stable"
    list_lag: float | Callable[[], float] = attrs.field(default=0.0, validator=_at_least(0))
    search: Literal["contains", "words"] = "contains"
    ignores: Collection[ListParameter] = attrs.field(default=(), converter=_words)
    ignored_order: Literal["ASC", "DESC"] = "ASC"
    default_order: Literal["ASC", "DESC"] = "DESC"
    total_count: Literal["filtered", "store", "absent", "page", "wandering"] = "filtered"
    total_cap: int | None = attrs.field(default=None, validator=_at_least(0))
    paging_window: int | None = attrs.field(default=None, validator=_at_least(0))
    beyond_window: Literal[400, 404, 422] | None = None
    hidden: Collection[int] | Hides = attrs.field(default=(), converter=_ids_or_predicate)
    shown: int | None = attrs.field(default=None, validator=_at_least(0))
    channel_encoding: Collection[ChannelEncoding] = attrs.field(default=("repeat",), converter=_words)
    other_channel_encodings: Literal["ignore", "nothing", 400, 422] = "ignore"
    default_channels: Collection[int] | None = attrs.field(default=None, converter=_ids_or_none)
    sparse_lists: bool = False
    ids_as: Literal["number", "string"] = "number"

    fees_as: Literal["objects", "numbers"] = "objects"
    empties_as: Literal["own", "swapped"] = "own"
    channel_times_as: Literal["digits", "number", "iso"] = "digits"
    channel_name: Literal["name", "channelName"] = "name"
    site_as: Literal["object", "text"] = "object"

    stray_after: float | None = attrs.field(default=0.0, validator=_at_least(0))
    swap_within: float = attrs.field(default=0.05, validator=_at_least(0))
    echo_offset: Literal["asked", "zero", "clamped"] | None = "asked"
    written_ids: Literal["right", "absent", "wrong"] = "right"

    success_status: int | Mapping[Method, int] = attrs.field(default=200, validator=_successes)
    success_code: int | None = None
    without_body: Collection[Method] = attrs.field(default=(), converter=_words)
    multi_storefront: bool = True
    single_storefront_status: Literal[403, 422] = 422
    missing_scope_status: Literal[401, 403, 404] | None = None
    authentication: Collection[Authentication] = attrs.field(default=("store", "legacy"), converter=_words)
    content_type_required: bool = False
    field_errors: Literal["flat", "nested"] = "flat"
    field_errors_status: Literal[422, 400] = 422
    unavailable_wait: float | None = attrs.field(default=None, validator=_at_least(0))
    latency: float = attrs.field(default=0.0, validator=_at_least(0))
    drip_interval: float = attrs.field(default=0.01, validator=_at_least(0))
    redirect_to: str = "https://elsewhere.invalid/"
    date_header: bool = True

    def __attrs_post_init__(self) -> None:
        for name, words in _words_of_rules().items():
            value = getattr(self, name)
            given = value if isinstance(value, frozenset) else {value}
            if not given <= set(words):
                known = ", ".join(map(repr, words))
                raise ConfigurationError(f"Rules({name}={value!r}) is unknown; known are {known}.")


@cache
def _words_of_rules() -> Mapping[str, Sequence[object]]:
    """Return the words of each rule whose type names them."""
    return {name: words for name, kind in get_type_hints(Rules).items() if (words := _words_in(kind))}


def _words_in(kind: Any) -> Sequence[object]:
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return parts
    if get_origin(kind) is Mapping:
        return ()
    words = [word for part in parts for word in _words_in(part)]
    return [*words, None] if words and type(None) in parts else words
