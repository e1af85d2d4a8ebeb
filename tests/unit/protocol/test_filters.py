"""Checking the rows of a page against the filters of its request."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from b2b_payments import AnswerMismatchError
from b2b_payments._protocol.answer import Answer
from b2b_payments._protocol.json import encode
from b2b_payments._protocol.listing import Listing, read_listing
from b2b_payments._protocol.query import ChannelEncoding, PaymentQuery
from b2b_payments._protocol.request import get_payment, list_payments
from tests.support.examples import LISTED_PAYMENT

ROW: dict[str, Any] = {
    **LISTED_PAYMENT,
    "id": 7,
    "processingStatus": 3,
    "customerName": "Café  Zoë AG",
    "lineItems": [{"invoiceId": "12"}, {"invoiceId": 13}],
    "customerId": "97550",
    "externalId": "ERP-17",
    "externalCustomerId": None,
}


def read(rows: list[Any], *, ignored: frozenset[str] = frozenset(), **asked: Any) -> Listing:
    """Read a page of these rows, requested with these filters."""
    query = PaymentQuery(**asked).pairs(offset=0, limit=250, encoding=ChannelEncoding.REPEAT)
    request = attrs.evolve(list_payments(query), ignored=ignored)
    return read_listing(request, Answer(200, {}, encode({"code": 200, "data": rows})), "", offset=0)


@pytest.mark.parametrize(
    ("asked", "place"),
    [
        ({"processing_status": 3}, "processingStatus"),
        ({"invoice_id": 12}, "invoiceId"),
        ({"invoice_id": 13}, "invoiceId"),
        ({"customer_name": " cafe zoe"}, "customerName"),
        ({"q": 7, "search_by": "id"}, "id"),
        ({"q": "97550", "search_by": "customerId"}, "customerId"),
        ({"q": "erp", "search_by": "externalId"}, "externalId"),
        ({"q": "ERP-17"}, "q"),
        ({}, None),
    ],
)
def test_matching_rows_confirm_the_filter(asked: dict[str, Any], place: str | None) -> None:
    """A page whose rows match its filters names them; numbers may be strings, texts may be variants."""
    listing = read([ROW, ROW], **asked)
    assert listing.named == (frozenset() if place is None else {f"$.data[].{place}"})
    assert not listing.ignored


@pytest.mark.parametrize(
    ("asked", "other", "place"),
    [
        ({"processing_status": 3}, {"processingStatus": "2"}, "processingStatus"),
        ({"processing_status": 3}, {"processingStatus": 0}, "processingStatus"),
        ({"invoice_id": 12}, {"lineItems": [{"invoiceId": 112}]}, "invoiceId"),
        ({"customer_name": "zoë"}, {"customerName": "Zora"}, "customerName"),
        ({"q": "97550", "search_by": "customerId"}, {"customerId": 97551}, "customerId"),
        ({"q": "ERP-17"}, {"externalId": "ERP-18"}, "q"),
    ],
)
def test_row_that_does_not_match_is_refused(asked: dict[str, Any], other: Any, place: str) -> None:
    """One row that does not match is a mismatch; the error names the path, but no values."""
    with pytest.raises(AnswerMismatchError) as caught:
        read([ROW, {**ROW, "id": 9, **other}], **asked)
    assert caught.value.paths == [f"$.data[].{place}"]
    assert caught.value.said == f"$.data[].{place}: 9"
    assert caught.value.message.endswith(f"$.data[].{place} does not match the filter in 1 of 2 rows.")
    listing = read([ROW, {**ROW, **other}], ignored=frozenset({f"$.data[].{place}"}), **asked)
    assert listing.ignored == {f"$.data[].{place}"}
    assert not listing.named


@pytest.mark.parametrize(
    ("asked", "silent"),
    [
        ({"processing_status": 3}, {"processingStatus": None}),
        ({"processing_status": 3}, {"processingStatus": "done"}),
        ({"invoice_id": 12}, {"lineItems": []}),
        ({"invoice_id": 12}, {"lineItems": None}),
        ({"invoice_id": 12}, {"lineItems": [{"invoiceNumber": "A"}, 5]}),
        ({"invoice_id": 12}, {"lineItems": [{"invoiceId": 13}, {}]}),
        ({"customer_name": "zoë"}, {"customerName": ""}),
        ({"q": "1", "search_by": "externalId"}, {"externalId": None}),
    ],
)
def test_missing_value_is_not_a_mismatch(asked: dict[str, Any], silent: Any) -> None:
    """A row with no value, or an unreadable one, proves nothing; neither does an empty page."""
    for rows in ([{**ROW, **silent}], []):
        listing = read(rows, **asked)
        assert not listing.named
        assert not listing.ignored


@pytest.mark.parametrize(
    ("mine", "others", "alike"),
    [
        ({}, {}, False),
        ({}, {"page_size": 7}, False),
        ({}, {"processing_status": 3}, True),
        ({}, {"order_by": "DESC"}, True),
        ({}, {"sort_by": "updatedAt"}, True),
        ({"processing_status": 3}, {"processing_status": 1}, False),
        ({"processing_status": 3}, {"processing_status": 3, "invoice_id": 12}, True),
        ({"processing_status": 3}, {"invoice_id": 12}, True),
        ({"channel_ids": [1]}, {"channel_ids": [2]}, False),
        ({"channel_ids": [1, 3]}, {"channel_ids": [2, 3]}, True),
        ({"channel_ids": [1], "processing_status": 3}, {"channel_ids": [1], "processing_status": 1}, False),
        ({}, {"offset": 250}, False),
    ],
)
def test_resembling_pages_may_share_a_payment(mine: Any, others: Any, *, alike: bool) -> None:
    """Pages of two lists with the same offset can be confused unless no payment is in both lists."""
    for encoding in ChannelEncoding:
        one, other = (
            list_payments(
                PaymentQuery(
                    **{name: value for name, value in asked.items() if name not in {"offset", "page_size"}}
                ).pairs(offset=asked.get("offset", 0), limit=asked.get("page_size", 250), encoding=encoding)
            )
            for asked in (mine, others)
        )
        assert one.resembles(other) is other.resembles(one) is alike
    assert not one.resembles(get_payment(7))
