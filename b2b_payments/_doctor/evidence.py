"""What was asked, and what was seen: all that findings are drawn from."""

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


class NotAskedError(B2BPaymentsError):
    """There were no requests left for this question."""


@frozen
class Question:
    """A request with the name of what it is to show. `auth` is another credential than the one that works."""

    name: str
    request: Request
    auth: Auth | None = None


def plain(name: str = "plain", auth: Auth | None = None) -> Question:
    """Ask for the list as it comes without any parameter."""
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
    """Ask for a page."""
    given = {"offset": offset, "limit": limit, "orderBy": order, "sortBy": sort}
    query = tuple((key, str(value)) for key, value in given.items())
    return Question(name, requests.list_payments(query + filters))


@frozen
class Seen:
    """What came of a question: data and pagination of a success, or the failure; and when, and with which
    headers.

    `asked` and `answered` are moments of this machine's clock, in UTC, `date` is the service's; `moment` is
    that of a steady clock, in seconds; `sent` counts the requests up to this answer.
    """

    question: Question
    data: Any = attrs.field(default=None, repr=False)
    pagination: Mapping[str, Any] = attrs.field(factory=dict)
    failure: B2BPaymentsError | None = None
    asked: datetime | None = None
    answered: datetime | None = None
    moment: float = 0.0
    sent: int = 0
    date: datetime | None = None
    reading: QuotaReading | None = None

    @property
    def is_success(self) -> bool:
        """Whether the service answered as asked."""
        return self.failure is None

    @property
    def status(self) -> int | None:
        """The status of a refusal; None where there is none."""
        if not isinstance(self.failure, APIError):
            return None
        code = self.failure.code
        return code if self.failure.status < 300 and code is not None else self.failure.status

    @property
    def rows(self) -> Sequence[Row]:
        """The payments of a page; none of anything else."""
        rows = self.data if isinstance(self.data, list) else []
        return [row for row in rows if isinstance(row, dict)]

    @property
    def ids(self) -> list[int | None]:
        """The payments' ids, in their order."""
        return [whole_of(row.get("id")) for row in self.rows]

    @property
    def times(self) -> list[int | None]:
        """The moments at which they were created, in epoch seconds."""
        return moments(self.rows, "createdAt")

    def said(self, name: str) -> int | None:
        """Return a number of the pagination."""
        return whole_of(self.pagination.get(name))

    @property
    def total(self) -> int | None:
        """How many rows the service says there are."""
        return self.said("totalCount")

    def parameter(self, name: str) -> int | None:
        """Return a number that was asked for."""
        return whole_of(dict(self.question.request.query).get(name))


def moments(rows: Sequence[Row], field: str) -> list[int | None]:
    """Return a time of each row, in epoch seconds."""
    return [whole_of(row.get(field)) for row in rows]


def channel_of(row: Row) -> int | None:
    """Return the channel of a payment, None where it names none."""
    return whole_of(row.get("channelId"))


@define
class Evidence:
    """All that was seen, by the names of the questions. `requests` were sent in all.

    `auth` is the credential that worked, the first where none did; `quota` what this client keeps to.
    """

    auth: Auth
    quota: Quota | None
    requests: int = 0
    seen: dict[str, Seen] = attrs.field(factory=dict)

    def get(self, name: str) -> Seen:
        """Return what came of a question, a failure where it was not asked."""
        found = self.seen.get(name)
        return found or Seen(plain(name), failure=NotAskedError("It was not asked."))

    def all(self, prefix: str) -> Mapping[str, Seen]:
        """Return what came of the questions whose names begin so, by the rest of their names."""
        return {name.removeprefix(prefix): one for name, one in self.seen.items() if name.startswith(prefix)}

    @property
    def pages(self) -> list[Seen]:
        """The pages of the whole list, in whatever order."""
        names = ("plain", "first", "again", "larger", "one", "last", "tail", "beyond", "updated")
        return [self.seen[name] for name in names if name in self.seen and self.seen[name].is_success]

    @property
    def rows(self) -> Sequence[Row]:
        """Every payment that was seen in any list, each once, as it was seen first."""
        lists = (one for one in self.seen.values() if one.question.request.call == "payments.list")
        return _each_once(lists)

    @property
    def whole(self) -> Sequence[Row]:
        """Every payment that was seen in the list without filters, each once."""
        return _each_once(self.pages)

    @property
    def size(self) -> int:
        """The rows of a page that were asked for, and not refused."""
        return self.get("first").parameter("limit") or 1

    @property
    def total(self) -> int | None:
        """How many payments the list's first page says there are."""
        return self.get("first").total


def _each_once(lists: Iterable[Seen]) -> Sequence[Row]:
    by_id: dict[str, Row] = {}
    for one in lists:
        for row in one.rows:
            by_id.setdefault(str(row.get("id")), row)
    return list(by_id.values())
