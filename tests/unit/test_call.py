"""The outcome of an attempt, by its failure."""

from __future__ import annotations

from typing import Any

import pytest

from b2b_payments import APIError, B2BPaymentsError, ConfigurationError, ResponseDecodeError, TransportError
from b2b_payments._protocol.answer import Answer, read_envelope
from b2b_payments._protocol.request import get_payment
from b2b_payments._retry import Outcome, outcome_of


def answered(status: int, code: int | None = None) -> APIError:
    """Return the error for an answer."""
    body = b"" if code is None else b'{"code":%d}' % code
    headers = {"Location": "/"} if 300 <= status < 400 else {}
    with pytest.raises(APIError) as caught:
        read_envelope(get_payment(1), Answer(status, headers, body), "https://api.example")
    return caught.value


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (TransportError("", sent=False), Outcome.NOT_SENT),
        (TransportError("", sent=False, lasting=True), Outcome.UNREACHABLE),
        (TransportError("", sent=True), Outcome.AMBIGUOUS),
        (ResponseDecodeError(""), Outcome.UNREADABLE),
        (ConfigurationError(""), Outcome.FINAL),
        *(
            (answered(status), Outcome.FINAL)
            for status in (307, 308, 400, 401, 403, 404, 405, 409, 413, 415, 422)
        ),
        *((answered(status), Outcome.UNCLEAR) for status in (300, 301, 302, 303)),
        *((answered(status, code=200), Outcome.UNCLEAR) for status in (400, 404, 409, 422)),
        (answered(408, code=200), Outcome.AMBIGUOUS),
        (answered(429, code=200), Outcome.REFUSED),
        (answered(408), Outcome.AMBIGUOUS),
        (answered(421), Outcome.NOT_SENT),
        (answered(425), Outcome.NOT_SENT),
        (answered(429), Outcome.REFUSED),
        *((answered(status), Outcome.FAILED) for status in (500, 502, 503, 504, 507, 599)),
        (answered(404, code=500), Outcome.FINAL),
        (answered(200, code=404), Outcome.FINAL),
        (answered(200, code=408), Outcome.AMBIGUOUS),
        (answered(200, code=429), Outcome.REFUSED),
        *((answered(200, code=code), Outcome.FAILED) for code in (0, 1, 302, 500)),
    ],
    ids=lambda one: str(one) if isinstance(one, B2BPaymentsError) else one.name,
)
def test_outcome_follows_from_the_failure(failure: Any, outcome: Outcome) -> None:
    """The HTTP status decides, or the body's code if HTTP reports success; a 4xx refusal is final."""
    assert outcome_of(failure) is outcome


@pytest.mark.parametrize("status", [405, 406, 411, 415, 417, 426, 431])
def test_refusal_of_method_or_headers_after_a_success_is_a_failure(status: int) -> None:
    """A refusal of method or headers is final, unless a read with the same was answered before."""
    assert outcome_of(answered(status)) is Outcome.FINAL
    assert outcome_of(answered(status), answered_before=True) is Outcome.FAILED
    assert outcome_of(answered(403), answered_before=True) is Outcome.FINAL


@pytest.mark.parametrize("outcome", list(Outcome))
def test_final_outcome_is_neither_outage_nor_uncertain(outcome: Outcome) -> None:
    """An outage, or an uncertain outcome, is never FINAL."""
    assert not (outcome is Outcome.FINAL and (outcome.is_outage or outcome.is_uncertain))
