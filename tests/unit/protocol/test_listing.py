"""The list's query, and reading one page."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from typing import Any

import pytest

from b2b_payments import ConfigurationError, OrderBy, ProcessingStatus, ResponseDecodeError, SearchBy, SortBy
from b2b_payments._protocol.answer import Answer
from b2b_payments._protocol.json import decode, encode
from b2b_payments._protocol.listing import Listing, read_listing
from b2b_payments._protocol.query import ChannelEncoding, PaymentQuery
from b2b_payments._protocol.request import list_payments


def pairs(encoding: ChannelEncoding = ChannelEncoding.REPEAT, **given: Any) -> list[tuple[str, str]]:
    """Return the query of the first page of 10."""
    return list(PaymentQuery(**given).pairs(offset=0, limit=10, encoding=encoding))


DEFAULT = [("offset", "0"), ("limit", "10"), ("orderBy", "ASC"), ("sortBy", "createdAt")]


def test_query_without_filters() -> None:
    """Without filters, a query has only the page and the order."""
    assert pairs() == DEFAULT


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"processing_status": ProcessingStatus.INCOMPLETE}, ("processingStatus", "0")),
        ({"processing_status": 0}, ("processingStatus", "0")),
        ({"processing_status": 4}, ("processingStatus", "4")),
        ({"customer_name": "Zürich & Söhne"}, ("customerName", "Zürich & Söhne")),
        ({"invoice_id": 13}, ("invoiceId", "13")),
        ({"q": " 7 "}, ("q", " 7 ")),
        ({"q": "a=b&c"}, ("q", "a=b&c")),
    ],
)
def test_filter_is_one_pair(given: dict[str, Any], expected: tuple[str, str]) -> None:
    """Each filter adds exactly one pair with its value; zero is a value."""
    assert pairs(**given) == [*DEFAULT, expected]


@pytest.mark.parametrize("key", [SearchBy.EXTERNAL_ID, "externalId"])
def test_search_is_two_pairs(key: str) -> None:
    """A search adds the field and what to look for in it."""
    assert pairs(search_by=key, q="A-1") == [*DEFAULT, ("searchBy", "externalId"), ("q", "A-1")]


def test_enum_member_is_sent_as_its_value() -> None:
    """A text that a program keeps as an enum member is sent as that text."""

    class Name(str, Enum):  # noqa: UP042 - unlike StrEnum, its `str` is not its value
        ACME = "Acme & Co"

    assert pairs(customer_name=Name.ACME)[-1] == ("customerName", "Acme & Co")


def test_order_uses_the_documented_words() -> None:
    """Sort key and direction are sent as the service names them, from enums or strings."""
    expected = [("orderBy", "DESC"), ("sortBy", "totalAmount")]
    assert pairs(order_by=OrderBy.DESC, sort_by=SortBy.TOTAL_AMOUNT)[2:] == expected
    assert pairs(order_by="DESC", sort_by="totalAmount")[2:] == expected


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        (ChannelEncoding.REPEAT, [("channelIds", "1"), ("channelIds", "2")]),
        (ChannelEncoding.BRACKETS, [("channelIds[]", "1"), ("channelIds[]", "2")]),
        (ChannelEncoding.COMMA, [("channelIds", "1,2")]),
        (ChannelEncoding.BRACKETS_COMMA, [("channelIds[]", "1,2")]),
    ],
)
def test_channel_encodings(encoding: ChannelEncoding, expected: list[tuple[str, str]]) -> None:
    """Each encoding writes what its value shows; a repeated id is sent once."""
    assert pairs(encoding, channel_ids=[1, 2, 1])[4:] == expected
    assert "&".join(f"{key}={value}" for key, value in expected) == encoding.value


@pytest.mark.parametrize("given", [[1, 2], (1, 2), {1, 2}, range(1, 3), iter([1, 2])])
def test_channel_ids_in_any_iterable(given: Any) -> None:
    """Channel ids may be a list, a tuple, a set, a range or an iterator."""
    assert PaymentQuery(channel_ids=given).channel_ids == (1, 2)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"channel_ids": 1}, "channel_ids must be a list of whole numbers"),
        ({"channel_ids": "12"}, "channel_ids must be a list of whole numbers"),
        ({"channel_ids": ["1"]}, "channel_ids must be a list of whole numbers"),
        ({"channel_ids": [True]}, "channel_ids must be a list of whole numbers"),
        ({"channel_ids": [0]}, "channel_ids must be a list of whole numbers"),
        ({"channel_ids": []}, "channel_ids is empty; leave it out"),
        ({"processing_status": 5}, "processing_status 5 is unknown; use one of 0 .INCOMPLETE., 1"),
        ({"processing_status": True}, "processing_status True"),
        ({"processing_status": 3.0}, "processing_status 3.0"),
        ({"processing_status": "3"}, "processing_status '3'"),
        ({"processing_status": [3]}, r"processing_status \[3\]"),
        ({"invoice_id": 0}, "invoice_id must be a whole number of at least 1, not 0"),
        ({"invoice_id": "13"}, "invoice_id must be a whole number of at least 1, not '13'"),
        ({"sort_by": "id"}, "sort_by 'id' is unknown; use one of moduleName, "),
        ({"customer_name": ["x"]}, r"customer_name must be a string, not \['x'\]"),
        ({"customer_name": ""}, "customer_name is empty; leave it out"),
        ({"q": " "}, "q is empty; leave it out"),
        ({"q": 10**5000}, "q must be a string of keywords or an id, not <int>"),
        ({"invoice_id": 10**5000}, "invoice_id must be a whole number of at least 1, not <int>"),
        ({"channel_ids": [10**5000]}, "channel_ids must be a list of whole numbers"),
        ({"q": ["x"]}, r"q must be a string of keywords or an id, not \['x'\]"),
        ({"order_by": "asc"}, "order_by 'asc' is unknown; use one of ASC, DESC"),
        ({"search_by": "externalId"}, "search_by has nothing to search for: give q"),
        ({"search_by": "payerName"}, "search_by 'payerName' is unknown; use one of id, "),
    ],
)
def test_invalid_filters_are_refused(given: dict[str, Any], says: str) -> None:
    """An invalid filter raises an error with the valid values, before anything is sent."""
    with pytest.raises(ConfigurationError, match=says):
        PaymentQuery(**given)


def answered(body: Any) -> Listing:
    """Read a whole body as the page at offset 20."""
    return read_listing(list_payments(()), Answer(200, {}, encode(body)), "", offset=20)


def listing(data: Any, **pagination: Any) -> Listing:
    """Read a page that was requested at offset 20."""
    return answered({"code": 200, "data": data, "meta": {"pagination": pagination}})


def test_page_has_the_services_values() -> None:
    """Rows, limit and total are the answer's; the offset is the requested one."""
    page = listing([{"id": 1}], offset=20, limit=5, totalCount=31)
    assert ([decode(row) for row in page.rows()], page.offset, page.limit, page.total_count) == (
        [{"id": 1}],
        20,
        5,
        31,
    )


@pytest.mark.parametrize(
    ("date", "moment"),
    [
        ("Sun, 22 Nov 2026 12:00:00 GMT", datetime(2026, 11, 22, 12, tzinfo=UTC)),
        ("Sun, 22 Nov 2026 12:00:00 -0000", datetime(2026, 11, 22, 12, tzinfo=UTC)),
        ("Sun, 22 Nov 2026 12:00:00 +0100", datetime(2026, 11, 22, 11, tzinfo=UTC)),
        ("Sat, 01 Jan 0001 00:00:00 +0200", datetime(2000, 12, 31, 22, tzinfo=UTC)),
        ("yesterday", None),
        ("", None),
        ("Sun, 22 Nov 99999 12:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -0100", None),
    ],
)
def test_page_has_the_date_of_its_answer(date: str, moment: datetime | None) -> None:
    """The page's date is the `Date` header in UTC, or None if that cannot be read."""
    body = encode({"code": 200, "data": [], "meta": {}})
    page = read_listing(list_payments(()), Answer(200, {"Date": date}, body), "", offset=0)
    assert page.date == moment
    assert listing([]).date is None


def test_numbers_may_be_strings() -> None:
    """Pagination numbers may be strings."""
    page = listing([], offset="20", limit="5", totalCount="31")
    assert (page.offset, page.limit, page.total_count) == (20, 5, 31)


@pytest.mark.parametrize("absurd", [-1, 10**13, "9" * 5000, 1.5, True, None, [], "٣", "-1", {}])
def test_impossible_numbers_are_ignored(absurd: Any) -> None:
    """An impossible number is treated as missing, and the offset is the requested one."""
    page = listing([], offset=absurd, limit=absurd, totalCount=absurd)
    assert (page.offset, page.limit, page.total_count) == (20, None, None)


@pytest.mark.parametrize("meta", [{}, {"pagination": None}, {"pagination": [1]}, {"pagination": "no"}])
def test_page_without_pagination(meta: dict[str, Any]) -> None:
    """A page without pagination still has its rows."""
    page = answered({"code": 200, "data": [{"id": 1}], "meta": meta})
    assert (len(page.rows()), page.offset, page.limit, page.total_count) == (1, 20, None, None)


@pytest.mark.parametrize(
    "member",
    [
        '"updatedAt":' + "9" * 5_000,
        '"new":' + "[" * 200 + "]" * 200,
        '"id":2,"createdAt":1e9999999999999999999',
    ],
)
def test_a_row_that_cannot_be_decoded_is_named(member: str) -> None:
    """If a row is the reason why a page cannot be decoded, the error names its payment."""
    for row_id, name in (
        ("2", "payment 2: the answer"),
        ('"2"', "payment 2: the answer"),
        ('"x"', "The answer"),
    ):
        rows = ",".join(f'{{"id":{one},"details":{{"a":[1]}}}}' for one in ("1", row_id, "3"))
        rows = rows.replace(f'{{"id":{row_id}', f'{{{member},"id":{row_id}')
        body = f'{{"code":200,"data":[{rows}],"meta":{{}}}}'.encode()
        with pytest.raises(ResponseDecodeError) as caught:
            read_listing(list_payments(()), Answer(200, {}, body), "", offset=0)
        assert str(caught.value).startswith(name)


@pytest.mark.parametrize(
    ("data", "path", "found"),
    [
        (None, "$.data", "null"),
        ({}, "$.data", "an object"),
        ("x", "$.data", "a string"),
        (7, "$.data", "a number"),
        (True, "$.data", "a boolean"),
        ([{}, [1]], "$.data[1]", "a list"),
        ([None], "$.data[0]", "null"),
    ],
)
def test_data_must_be_a_list_of_objects(data: Any, path: str, found: str) -> None:
    """Data of another type raises an error with the path and the type found there."""
    with pytest.raises(ResponseDecodeError, match=f"found {found}") as caught:
        listing(data)
    assert caught.value.paths == [path]
