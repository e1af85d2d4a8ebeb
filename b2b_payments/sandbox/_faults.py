"""Recorded requests, the available faults, and which request a fault affects."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Mapping
from enum import Enum
from typing import Any

import attrs

from b2b_payments._errors import ConfigurationError
from b2b_payments._printable import define
from b2b_payments.sandbox._service import is_list


@define(eq=False)
class SeenRequest:
    """A request as it arrived. `at` is the event loop's time of its arrival, in seconds.

    `path` is the full decoded path (`/api/v3/io/ip/payments`), `query` the decoded pairs in order, `headers`
    a case-insensitive mapping, and `body` the decoded JSON, or None if there is no body or it is not JSON.
    `status` is the status that was sent, None while unanswered or if the connection was dropped instead;
    `own_status` is that of the service's own answer, even if it was never sent. `fault` is the fault that
    affected the request.
    """

    method: str
    path: str
    query: list[tuple[str, str]]
    # The headers hold a credential. Without them in the repr, they stay out of a failing test's output.
    headers: Mapping[str, str] = attrs.field(repr=False)
    at: float
    body: Any = None
    status: int | None = None
    own_status: int | None = None
    fault: Fault | None = None


class Fault(Enum):
    """What can go wrong with a request, and whether the request is carried out anyway."""

    # Not carried out.
    REFUSE = "the connection is reset before any of the request's body is read"
    RESET_BEFORE = "the request is read, nothing is done, the connection is reset"
    HTML_404 = "a gateway answers 404 in HTML, whether or not the payment exists"
    HTML_502 = "a gateway answers 502 in HTML"
    RATE_LIMITED = "429, with the headers that the rules name"
    ERROR_500 = "500"
    ERROR_503 = "503, with a Retry-After if the rules have one"
    ERROR_405 = "405, as gateways sometimes answer temporarily to allowed methods"
    ERROR_408 = "408"
    ERROR_421 = "421"
    ERROR_425 = "425"
    OK_WITH_CODE_500 = "HTTP 200 with code 500 in the body"
    OK_WITH_ODD_CODE = "HTTP 200 with a code in the body that is not a number"
    HANG_BEFORE = "no answer, ever"
    REDIRECT = "302 to the rules' redirect_to"

    # Carried out, with no answer or one that reports otherwise.
    RESET_AFTER = "carried out, and the connection is reset instead of an answer"
    RESET_DURING = "carried out, and the connection is reset in the middle of the answer"
    TRUNCATED = "carried out, and the connection is closed in the middle of the answer"
    HTML_502_AFTER = "carried out, and a gateway answers 502 in HTML"
    ERROR_408_AFTER = "carried out, and 408"
    ERROR_500_AFTER = "carried out, and 500"
    OK_WITH_CODE_500_AFTER = "carried out, and HTTP 200 with code 500 in the body"
    REFUSED_WITH_CODE_200_AFTER = "carried out, and 400, although the body reports success with code 200"
    REDIRECT_AFTER = "carried out, and 303 to the rules' redirect_to"
    HANG = "carried out, and no answer, ever"

    # Carried out, with an answer that is hard to read.
    GARBAGE = "carried out, and 200 with bytes that are not JSON"
    EMPTY = "carried out, and 200 without a body"
    WRONG_TYPE = "carried out, and 200 with an HTML page"
    DRIP = "carried out, and the answer comes a byte at a time"
    DEEP = "carried out, and the body is 20,000 nested lists"
    FLOOD = "carried out, and the data is a list of a million rows of a few bytes, whatever was requested"
    HUGE = "carried out, and the body is larger than 64 MiB"
    GZIP_BOMB = "carried out, and a body of 64 KiB decompresses to more than 64 MiB"
    INVALID_UTF8 = "carried out, and a string of the answer is not UTF-8"
    NAN = "carried out, and an id or a count of the answer is NaN"
    DUPLICATE_IDS = "carried out, and each row of a list comes twice"
    BYTE_ORDER_MARK = "carried out, and the body starts with a byte-order mark"

    # Carried out, with a plausible but wrong answer.
    EMPTY_LIST = "carried out, and the list of payments is empty, with a total of 0; affects only lists"
    OTHER_STORE = (
        "carried out, and the payments in the answer belong to another store; in lists, with other ids"
    )

    # Carried out, with answers mixed up in transit: see "Answers mixed up" in `Rules`.
    STRAY = "carried out, and its answer is followed by that of the previous request, on the same connection"
    DOUBLED = "carried out, and its answer is sent twice on its connection"
    LATE = "carried out, and a gateway answers 504; the answer itself follows on the same connection"
    SWAPPED = "carried out, and it gets the answer of another request in flight, which gets this one's"

    @property
    def carried_out(self) -> bool:
        """Whether the service carries out the request before the fault takes effect."""
        return self.value.startswith("carried out")


@define
class _Order:
    fault: Fault
    share: float
    times: int | None
    methods: frozenset[str] | None
    path: re.Pattern[str] | None

    def matches(self, method: str, path: str) -> bool:
        return (
            self.times != 0
            and (self.methods is None or method in self.methods)
            and (self.path is None or self.path.search(path) is not None)
            and (self.fault is not Fault.EMPTY_LIST or is_list(method, path))
        )


class Orders:
    """The active faults."""

    def __init__(self, seed: int) -> None:
        self._orders: list[_Order] = []
        self._random = random.Random(f"faults {seed}")

    def add(
        self,
        fault: Fault,
        *,
        share: float = 1 / 3,
        times: int | None = None,
        methods: Collection[str] | None = None,
        path: str | None = None,
    ) -> None:
        """Activate a fault. Raises `ConfigurationError` for an invalid share or number of times."""
        if not 0 <= share <= 1:
            raise ConfigurationError(f"share={share!r} must be a share of all requests, from 0 to 1.")
        if times is not None and times < 1:
            raise ConfigurationError(
                f"times={times!r} must be 1 or more, or None for a share of all requests."
            )
        if isinstance(methods, str):
            methods = {methods}
        upper = None if methods is None else frozenset(method.upper() for method in methods)
        pattern = None if path is None else re.compile(path)
        self._orders.append(_Order(fault, share, times, upper, pattern))

    def clear(self) -> None:
        """Deactivate all faults."""
        self._orders.clear()

    def draw(self, method: str, path: str) -> Fault | None:
        """Return the fault that affects a request: the first one ordered that applies, or None."""
        for order in self._orders:
            if not order.matches(method, path):
                continue
            if order.times is not None:
                order.times -= 1
                return order.fault
            if self._random.random() < order.share:
                return order.fault
        return None
