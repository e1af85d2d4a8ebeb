"""What the sandbox remembers of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from b2b_payments._half_made import shows_half_made
from b2b_payments.sandbox._faults import Fault


@shows_half_made
@attrs.define(eq=False)
class SeenRequest:
    """A request as it arrived. `at` is the loop's time of its arrival, in seconds.

    `path` is decoded and whole (`/api/v3/io/ip/payments`), `query` the decoded pairs in their order,
    `headers` a mapping that ignores case, `body` the decoded JSON, or None where there is none or it is not
    JSON. `status` is the one answered, None while unanswered or when the connection was dropped instead;
    `own_status` is that of the service's own answer, whatever became of it. `fault` is the one that it met.
    """

    method: str
    path: str
    query: list[tuple[str, str]]
    # The headers carry a credential: out of the repr they stay out of a failing test's output.
    headers: Mapping[str, str] = attrs.field(repr=False)
    at: float
    body: Any = None
    status: int | None = None
    own_status: int | None = None
    fault: Fault | None = None
