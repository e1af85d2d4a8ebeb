"""The tree of errors."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from b2b_payments import _errors as errors

ABOUT_ANSWER: dict[str, Any] = {
    "status": 422,
    "code": 42,
    "errors": {"currency": ["Must be a currency.", "Unknown."]},
    "request_id": "req-1",
    "method": "POST",
    "url": "https://api.example/ip/payments/offline",
}
ANSWERS = [
    errors.APIError,
    errors.BadRequestError,
    errors.AuthenticationError,
    errors.PermissionDeniedError,
    errors.NotFoundError,
    errors.ConflictError,
    errors.PayloadTooLargeError,
    errors.ValidationError,
    errors.ServerError,
]
EXAMPLES: list[errors.B2BPaymentsError] = [
    errors.B2BPaymentsError("It failed."),
    errors.ConfigurationError("It cannot work."),
    errors.TransportError("No connection.", sent=False),
    errors.RequestTimeoutError("Too late."),
    *(kind("Refused.", **ABOUT_ANSWER) for kind in ANSWERS),
    errors.RateLimitError("Wait.", retry_after=1.5, **ABOUT_ANSWER),
    errors.ResponseDecodeError("Not JSON.", paths=["$.data[3].total.value"]),
    errors.AnswerMismatchError("Another's.", paths=["$.data.id"]),
    errors.OutcomeUnknownError("Look for it.", look_for={"externalId": "INV-7"}),
    errors.OutcomeUnknownError("Settle it.", write={"call": "payments.delete", "id": 7, "body": None}),
    errors.ExternalIdTakenError("It is another.", payment_id=7, differences={"sum": ("1", "2")}),
    errors.ExportError("No room."),
    errors.AlreadyRunningError("Another sync is writing it."),
    errors.VerificationError("It is another."),
    errors.PaginationError("It repeats itself.", checkpoint={"key": "1618800393", "ids": [70]}),
]

COPIES: list[Callable[[Any], Any]] = [
    copy.copy,
    copy.deepcopy,
    *(lambda one, p=p: pickle.loads(pickle.dumps(one, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)),  # noqa: S301
]


def kinds(root: type[BaseException] = errors.B2BPaymentsError) -> set[type[BaseException]]:
    """Return a class and all its public subclasses."""
    below = [kinds(one) for one in root.__subclasses__() if one.__module__ == "b2b_payments"]
    return {root}.union(*below)


def test_every_error_has_an_example() -> None:
    """The tests below cover every error class."""
    assert {type(one) for one in EXAMPLES} == kinds()


@pytest.mark.parametrize("duplicate", COPIES)
@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_survive_copies_and_pickles(
    error: errors.B2BPaymentsError, duplicate: Callable[[Any], Any]
) -> None:
    """A copied or pickled error has the same class, text, arguments and attributes."""
    again = duplicate(error)
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.args == error.args
    assert vars(again) == vars(error)


@pytest.mark.parametrize(
    ("kind", "parent"),
    [
        (errors.ConfigurationError, errors.B2BPaymentsError),
        (errors.TransportError, errors.B2BPaymentsError),
        (errors.RequestTimeoutError, errors.TransportError),
        (errors.APIError, errors.B2BPaymentsError),
        (errors.ResponseDecodeError, errors.B2BPaymentsError),
        (errors.OutcomeUnknownError, errors.B2BPaymentsError),
        (errors.PaginationError, errors.B2BPaymentsError),
        *((kind, errors.APIError) for kind in (*ANSWERS[1:], errors.RateLimitError)),
    ],
)
def test_error_tree_is_as_documented(kind: type[Exception], parent: type[Exception]) -> None:
    """Each error has the parent that the documentation draws."""
    assert kind.__bases__[0] is parent


def test_builtin_base_classes() -> None:
    """A timeout is also Python's TimeoutError, and an invalid setting a ValueError."""
    assert issubclass(errors.RequestTimeoutError, TimeoutError)
    assert issubclass(errors.ConfigurationError, ValueError)


def test_api_error_text() -> None:
    """An API error's text has the request, status, service's message, fields and request id."""
    assert str(errors.ValidationError("Validation Error", **ABOUT_ANSWER)) == (
        "POST https://api.example/ip/payments/offline: 422 Validation Error; "
        "currency: Must be a currency., Unknown. (request id req-1)"
    )
    assert str(errors.APIError("No", status=418)) == "418 No"


def test_text_of_an_error_under_a_successful_status() -> None:
    """If only the body reports the failure, the text has its code, too."""
    error = errors.NotFoundError("Payment does not exist", **ABOUT_ANSWER | {"status": 200, "code": 404})
    assert "/offline: 200 with code 404: Payment does not exist; currency" in str(error)


def test_errors_copy_their_arguments() -> None:
    """An error copies its arguments: later changes to them do not affect it."""
    fields = {"currency": ["Unknown."]}
    error = errors.ValidationError("No", status=422, errors=fields)
    fields["currency"].append("changed")
    assert error.errors == {"currency": ["Unknown."]}
