"""Invalid numbers: underscores, digits of other scripts, white space, other bases, thousands of digits."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from click.testing import CliRunner

from b2b_payments import ConfigurationError, Money, OfflineLineItem, ResponseDecodeError
from b2b_payments._cli.program import program
from b2b_payments._converter import structure_payment, structure_rows
from b2b_payments._protocol.answer import Answer, Envelope, read_payment_id
from b2b_payments._protocol.json import decode
from b2b_payments._protocol.limits import read_limits
from b2b_payments._protocol.listing import Listing, read_listing
from b2b_payments._protocol.request import get_payment, list_payments
from b2b_payments._walk.page import Order, keyed
from tests.support.examples import LISTED_PAYMENT

TEXTS = [
    "1_000", "１２", "١٢", " 12", "12 ", "12\n", "0x10", "1,5", "1.2.3", "--1", "one", "NaN", "Infinity",
    "-inf", "sNaN", "1e999999", "1e99999999999999999999", "9" * 5_000,
]  # fmt: skip
FIELDS: dict[str, Callable[[Any], dict[str, Any]]] = {
    ".id": lambda value: {"id": value},
    ".createdAt": lambda value: {"createdAt": value},
    ".processingStatus": lambda value: {"processingStatus": value},
    ".appliedStatus": lambda value: {"appliedStatus": value},
    ".channelId": lambda value: {"channelId": value},
    ".total.value": lambda value: {"total": {"code": "USD", "value": value}},
    ".fees[0].amount": lambda value: {"fees": [{"amount": value}]},
    ".lineItems[0].invoiceId": lambda value: {"lineItems": [{"invoiceId": value}]},
    ".allowedStatuses[0]": lambda value: {"allowedStatuses": [value]},
}


def listing_of(row: bytes) -> Listing:
    """Return a page of one row."""
    body = (
        b'{"code": 200, "data": [%b], "meta": {"pagination": {"totalCount": "1_0", "limit": "\xef\xbc\x91"}}}'
    )
    return read_listing(list_payments(()), Answer(200, {}, body % row), "", offset=0)


@pytest.mark.parametrize(("path", "field"), FIELDS.items(), ids=FIELDS)
def test_no_field_accepts_an_invalid_number(path: str, field: Callable[[Any], dict[str, Any]]) -> None:
    """A payment with such a text is refused with its path; the listing's raw objects are unchanged."""
    for text in TEXTS:
        row = LISTED_PAYMENT | field(text)
        with pytest.raises(ResponseDecodeError) as caught:
            structure_payment(row)
        assert caught.value.paths == [f"$.data{path}"]
        listing = listing_of(json.dumps(row).encode())
        with pytest.raises(ResponseDecodeError) as caught:
            next(structure_rows(listing, [0]))
        assert caught.value.paths[0].endswith(path)
        assert listing.objects() == [row]
        assert (listing.total_count, listing.limit) == (None, None)


@pytest.mark.parametrize("digits", [100, 400, 4_300, 5_000])
def test_no_field_accepts_a_number_of_many_digits(digits: int) -> None:
    """A JSON number of 100 digits or more in any numeric field raises ResponseDecodeError."""
    for field in FIELDS.values():
        row = json.dumps(LISTED_PAYMENT | field("here")).replace('"here"', "9" * digits + "9").encode()
        with pytest.raises(ResponseDecodeError):
            structure_payment(decode(row))
        with pytest.raises(ResponseDecodeError):
            next(structure_rows(listing_of(row), [0]))
    if digits > 4_300:
        with pytest.raises(ResponseDecodeError, match=r"a number at \$\[.* is out of range") as caught:
            decode(b"[1, [%b]]" % (b"9" * digits))
        assert caught.value.paths == ["$[1][0]"]


def test_no_page_is_sorted_by_an_invalid_number() -> None:
    """A walk does not accept such a text as an id or a time, and its error has the path."""
    order = Order("created_at", False)
    for text in [*TEXTS, ""]:
        for name in ("id", "createdAt"):
            listing = listing_of(json.dumps(LISTED_PAYMENT | {name: text}).encode())
            with pytest.raises(ResponseDecodeError, match=rf"\$\.data\[0\]\.{name}"):
                keyed(listing, order, limit=250, full_size=True)


def test_nothing_else_accepts_an_invalid_number() -> None:
    """The response to a create, the quota's headers, and a caller's amount do not accept one."""
    now = datetime.now(UTC)
    for text in TEXTS:
        with pytest.raises(ResponseDecodeError):
            read_payment_id(Envelope({"paymentId": text}, {}))
        headers = dict.fromkeys(
            ("X-Requests-Remaining", "X-Request-Window-Resets-After", "Retry-After"), text
        )
        reading = read_limits(headers, now)
        if text.strip() != "12":  # white space around a header's value is not part of it
            assert (reading.remaining, reading.resets_after, reading.wait) == (None, None, None)
        with pytest.raises(ConfigurationError, match="is not a finite number"):
            Money("USD", text)
        with pytest.raises(ConfigurationError, match="is not a finite number"):
            OfflineLineItem(1, text)
    with pytest.raises(ConfigurationError, match="must be a whole number of at least 1, not <int>"):
        get_payment(10**5_000)


@pytest.mark.parametrize("text", ["1_0", "１２", "١٢", " 12", "12 ", "0x10", "9" * 5_000, "1e3"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["get", "{}"],
        ["list", "--limit", "{}"],
        ["list", "--status", "{}"],
        ["list", "--channel", "{}"],
        ["export", "--output", "p.jsonl", "--quota", "{}/60"],
        ["export", "--output", "p.jsonl", "--outage", "{}"],
        ["create-offline", "--line", "{}=1"],
        ["sandbox", "--payments", "{}"],
    ],
    ids=" ".join,
)
def test_no_argument_accepts_an_invalid_number(arguments: list[str], text: str) -> None:
    """On the command line such a text is a usage error with a short message."""
    if "--quota" in arguments and text == " 12":
        return  # white space around a quota is ignored
    result = CliRunner().invoke(program, [argument.format(text) for argument in arguments])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()[-1]) < 300
