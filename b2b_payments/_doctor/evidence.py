"""The questions, and the observations that findings are drawn from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from b2b_payments._auth import LegacyAuth, StoreAuth
from b2b_payments._errors import APIError, B2BPaymentsError
from b2b_payments._models import OrderBy, SortBy
from b2b_payments._models.decimals import whole_of
from b2b_payments._printable import define, frozen
from b2b_payments._protocol import request as requests
from b2b_payments._protocol.request import Query, Request
from b2b_payments._quota import Quota, QuotaReading

Auth = StoreAuth | LegacyAuth
Row = Mapping[str, Any]


class NotSentError(B2BPaymentsError):
    """A question was not sent: it did not apply, or the limit of requests was reached."""


@frozen
class Question:
    """A request, and the name of what it is to find out. `auth` replaces the credential that works."""

    name: str
    request: Request
    auth: Auth | None = None


def plain(name: str = "plain", auth: Auth | None = None) -> Question:
    """Request the list without any parameter."""
    return Question(name, requests.list_payments(()), auth)


def page(
    name: str,
    limit: int,
    offset: int = 0,
    *,
    order: OrderBy = OrderBy.ASC,
    sort: SortBy = SortBy.CREATED_AT,
    filters: Query = (),
) -> Question:
    """Request a page of the list."""
    parameters = {"offset": offset, "limit": limit, "orderBy": order, "sortBy": sort}
    query = tuple((key, str(value)) for key, value in parameters.items())
    return Question(name, requests.list_payments(query + filters))


@frozen
class Observation:
    """The response to a question: data and pagination if it succeeded, else the failure; times and headers.

    `sent_at` and `received_at` are in UTC by this machine's clock, `date` is by the service's; `monotonic` is
    in seconds of a monotonic clock. `requests_so_far` counts all requests up to this response.
    """

    question: Question
    data: Any = attrs.field(default=None, repr=False)
    pagination: Mapping[str, Any] = attrs.field(factory=dict)
    failure: B2BPaymentsError | None = None
    sent_at: datetime | None = None
    received_at: datetime | None = None
    monotonic: float = 0.0
    requests_so_far: int = 0
    date: datetime | None = None
    reading: QuotaReading | None = None

    @property
    def is_success(self) -> bool:
        """Whether the question was sent, and answered without an error."""
        return self.failure is None

    @property
    def status(self) -> int | None:
        """The status of an error response, or None. The body's `code` counts if the HTTP status is 2xx."""
        if not isinstance(self.failure, APIError):
            return None
        code = self.failure.code
        return code if self.failure.status < 300 and code is not None else self.failure.status

    @property
    def rows(self) -> Sequence[Row]:
        """The rows of a page, or nothing if the data is not a list."""
        rows = self.data if isinstance(self.data, list) else []
        return [row for row in rows if isinstance(row, dict)]

    @property
    def ids(self) -> list[int | None]:
        """The payments' ids, in the order of the page."""
        return [whole_of(row.get("id")) for row in self.rows]

    @property
    def created(self) -> list[int | None]:
        """When the payments were created, in epoch seconds."""
        return times_of(self.rows, "createdAt")

    def stated(self, name: str) -> int | None:
        """Return a number from the response's pagination."""
        return whole_of(self.pagination.get(name))

    @property
    def total(self) -> int | None:
        """How many rows there are according to the service."""
        return self.stated("totalCount")

    def requested(self, name: str) -> int | None:
        """Return a number from the request's query."""
        return whole_of(dict(self.question.request.query).get(name))


def times_of(rows: Sequence[Row], field: str) -> list[int | None]:
    """Return a time of each row, in epoch seconds."""
    return [whole_of(row.get(field)) for row in rows]


def channel_of(row: Row) -> int | None:
    """Return the channel's id in a row, or None."""
    return whole_of(row.get("channelId"))


@define
class Evidence:
    """All observations, by the name of their question. `requests` counts the requests that were sent.

    `auth` is the credential that works, or the first if none does. `quota` is the one that this client keeps.
    """

    auth: Auth
    quota: Quota | None
    requests: int = 0
    by_name: dict[str, Observation] = attrs.field(factory=dict)

    def get(self, name: str) -> Observation:
        """Return the observation of a question. If it was not sent, the observation is a failure."""
        observation = self.by_name.get(name)
        return observation or Observation(plain(name), failure=NotSentError("It was not sent."))

    def by_prefix(self, start: str) -> Mapping[str, Observation]:
        """Return the observations of questions whose names have this prefix, by the rest of their names."""
        return {name.removeprefix(start): one for name, one in self.by_name.items() if name.startswith(start)}

    @property
    def readings(self) -> list[tuple[Observation, QuotaReading]]:
        """The responses whose headers say something about the quota, with what they say."""
        return [(one, one.reading) for one in self.by_name.values() if one.reading is not None]

    @property
    def pages(self) -> list[Observation]:
        """The pages of the unfiltered list, in any order of rows."""
        names = ("plain", "first", "again", "larger", "one", "last", "tail", "beyond", "updated")
        return [one for one in map(self.get, names) if one.is_success]

    @property
    def rows(self) -> Sequence[Row]:
        """The distinct payments of all lists, each as it was seen first."""
        lists = (one for one in self.by_name.values() if one.question.request.call == "payments.list")
        return _distinct_rows(lists)

    @property
    def unfiltered_rows(self) -> Sequence[Row]:
        """The distinct payments of the unfiltered list."""
        return _distinct_rows(self.pages)

    @property
    def page_size(self) -> int:
        """The page size that was requested, and not refused: if all were, that of a list without `limit`."""
        first = self.get("first")
        return (len(self.get("plain").rows) if first.status == 413 else first.requested("limit")) or 1

    @property
    def total(self) -> int | None:
        """The total number of payments according to the list's first page."""
        return self.get("first").total


def _distinct_rows(lists: Iterable[Observation]) -> Sequence[Row]:
    by_id: dict[str, Row] = {}
    for one in lists:
        for row in one.rows:
            by_id.setdefault(str(row.get("id")), row)
    return list(by_id.values())
