"""Every error that this library raises, under one root.

::

    B2BPaymentsError
    ├── ConfigurationError            what the caller gave cannot work; nothing was sent
    ├── TransportError                no complete answer came
    │   └── RequestTimeoutError       … within the time allowed
    ├── APIError                      the service answered, and said no
    │   ├── BadRequestError 400       ├── AuthenticationError 401   ├── PermissionDeniedError 403
    │   ├── NotFoundError 404         ├── ConflictError 409         ├── PayloadTooLargeError 413
    │   ├── ValidationError 422       ├── RateLimitError 429        └── ServerError 5xx
    ├── ResponseDecodeError           the service answered, and the answer cannot be read
    │   └── AnswerMismatchError       … since it belongs to another request
    ├── OutcomeUnknownError           a write was sent, and whether it happened could not be found out
    ├── ExternalIdTakenError          another payment has the external_id of one that was to be created
    ├── PaginationError               a walk cannot be completed
    └── ExportError                   what was exported cannot be written, or not be read again
        ├── AlreadyRunningError       … since another sync of the same copy, or such an export, is under way
        └── VerificationError         … an export is not what its manifest says

All of them pickle, and none carries a credential.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from b2b_payments._printable import printable

_LONGEST_FIELDS = 2_000
"""Characters that an error's text gives to its fields."""
_LONGEST_SHOWN = 80


def shown(value: object) -> str:
    """Return the `repr` of what a caller gave, for an error: cut where it is long, and never raising."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - an int of thousands of digits, or an object of the caller's
        return f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def in_our_words(failure: B2BPaymentsError) -> str:
    """Say what is the matter without anything that the service sent."""
    if not isinstance(failure, APIError):
        return failure.message.rstrip(".")
    shown = failure.status if failure.status >= 300 or failure.code is None else failure.code
    title = next((one.phrase for one in HTTPStatus if one == shown), "an error")
    return f"{shown} {title}" if shown == failure.status else f"{failure.status} with code {shown}: {title}"


class B2BPaymentsError(Exception):
    """The root of all errors of this library.

    `message` may hold what the service sent, as it came; in the error's text, control characters are escapes.
    """

    message: str = ""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return printable(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        # Subclasses take keyword-only arguments, which Exception's own way to pickle would lose.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[B2BPaymentsError], args: tuple[Any, ...], state: dict[str, Any]) -> B2BPaymentsError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(B2BPaymentsError, ValueError):
    """An argument, a setting or the way the client is used cannot work. Nothing was sent."""


class TransportError(B2BPaymentsError):
    """No complete answer came: connection refused, reset, or closed early.

    `sent` is False only where it is certain that the request never reached the service, and `lasting` is True
    where that has to be set right first: a host that does not exist, a certificate that is not trusted.
    """

    def __init__(self, message: str, *, sent: bool = True, lasting: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        self.lasting = lasting


class RequestTimeoutError(TransportError, TimeoutError):
    """No complete answer came within the attempt's timeout or the call's deadline.

    `retry_after` is how many seconds the store's quota would have to be waited for, None where the deadline
    passed for another reason.
    """

    def __init__(
        self, message: str, *, sent: bool = True, lasting: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message, sent=sent, lasting=lasting)
        self.retry_after = retry_after


class APIError(B2BPaymentsError):
    """The service answered with an error.

    `status` is the HTTP status, `code` the one in the body (None where it has none), `errors` what the
    service says field by field (a nested field by its path, ``line_items[1].invoice_id``), `request_id` its
    `X-Request-Id` or `Trace-Id`, `url` the address without its query, `retry_after` the number of seconds
    that the service asks to wait (None where it does not say).
    """

    status: int = 0
    errors: Mapping[str, Sequence[str]] = {}
    request_id: str | None = None
    method: str = ""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: int | None = None,
        errors: Mapping[str, Sequence[str]] | None = None,
        request_id: str | None = None,
        method: str = "",
        url: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.errors = {field: list(texts) for field, texts in (errors or {}).items()}
        self.request_id = request_id
        self.method = method
        self.url = url
        self.retry_after = retry_after

    def __str__(self) -> str:
        where = f"{self.method} {self.url}: " if self.method else ""
        fields = "".join(f"; {field}: {', '.join(texts)}" for field, texts in self.errors.items())
        if len(fields) > _LONGEST_FIELDS:
            fields = f"{fields[:_LONGEST_FIELDS]}… (the rest is in `errors`)"
        request = f" (request id {self.request_id})" if self.request_id else ""
        return printable(f"{where}{self.status} {self.message}{fields}{request}")


class BadRequestError(APIError):
    """400: the service refuses the request, e.g. an operation that the payment does not allow."""


class AuthenticationError(APIError):
    """401: the credential is wrong, expired, or lacks the scope (may also show as 403 or 404 [seen])."""


class PermissionDeniedError(APIError):
    """403: the credential may not do this."""


class NotFoundError(APIError):
    """404: there is no such payment (or the credential may not see it)."""


class ConflictError(APIError):
    """409: the payment changed meanwhile."""


class PayloadTooLargeError(APIError):
    """413: the service gives fewer rows a page than were asked for."""


class ValidationError(APIError):
    """422: `errors` says which field is wrong, and why."""


class RateLimitError(APIError):
    """429: the store's quota is used up, by this or another integration.

    More than an hour (`retry_after`) is not waited for.
    """


class ServerError(APIError):
    """5xx, from the service or from a gateway before it. A wrong store hash may be answered so, too [doc]."""


class ResponseDecodeError(B2BPaymentsError):
    """The answer is not what the service documents. `paths` says where, e.g. ``$.data[3].total.value``.

    `too_large` says that it holds more than any real answer does, and was not read for that.
    """

    paths: Sequence[str] = ()
    too_large: bool = False

    def __init__(self, message: str, *, paths: Sequence[str] = (), too_large: bool = False) -> None:
        super().__init__(message)
        self.paths = list(paths)
        self.too_large = too_large


class AnswerMismatchError(ResponseDecodeError):
    """The answer names another payment or page than was asked for: it belongs to another request.

    Answers get mixed up by proxies, and where an answer comes late or twice on a kept connection. `said` is
    what the answer names, where it may be that the service always names that; `in_part` that some of the
    payments in it were asked for.
    """

    def __init__(self, message: str, *, paths: Sequence[str] = (), said: str | None = None) -> None:
        super().__init__(message, paths=paths)
        self.said = said
        self.in_part = False


class OutcomeUnknownError(B2BPaymentsError):
    """A write was sent, no answer came, and looking did not settle whether it happened.

    `look_for` says what to look for, e.g. ``{"externalId": "INV-7"}``. Do not send the write again before
    having looked: there is no idempotency key, and lists may lag a write by about 20 minutes.
    `client.payments.settle(error)` looks again, also in another process and much later: `write` is what it
    has to know for that, in plain data, of which no text of the error shows anything.
    """

    def __init__(
        self,
        message: str,
        *,
        look_for: Mapping[str, Any] | None = None,
        write: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.look_for: dict[str, Any] = dict(look_for or {})
        self.write: dict[str, Any] = dict(write or {})


class ExternalIdTakenError(B2BPaymentsError):
    """Another payment has the `external_id` of one that was to be created. Nothing was created.

    `payment_id` is the payment that has it. `differences` are the fields in which it is not the one that was
    to be created (``customer_id``, ``currency``, ``sum``), each with what it has and what was asked for.
    """

    def __init__(
        self, message: str, *, payment_id: int, differences: Mapping[str, tuple[str, str]] | None = None
    ) -> None:
        super().__init__(message)
        self.payment_id = payment_id
        self.differences: dict[str, tuple[str, str]] = dict(differences or {})


class PaginationError(B2BPaymentsError):
    """A walk cannot be completed exactly.

    Everything that the walk gave until then stands. `checkpoint` is where it stopped.
    """

    def __init__(self, message: str, *, checkpoint: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.checkpoint: dict[str, Any] = dict(checkpoint or {})


class ExportError(B2BPaymentsError):
    """What was exported could not be written: the disk is full, or the place went away."""


class AlreadyRunningError(ExportError):
    """Another sync of the same copy, or export to the same file, is under way: this one may be skipped."""


class VerificationError(ExportError):
    """An export is not what its manifest says."""


for _error in (*globals().values(),):
    if isinstance(_error, type) and issubclass(_error, B2BPaymentsError):
        _error.__module__ = "b2b_payments"  # where it is imported from, in tracebacks and pickles
