"""Every error that this library raises, under one root class.

::

    B2BPaymentsError
    ├── ConfigurationError            an argument or setting is invalid; nothing was sent
    ├── TransportError                no complete answer was received
    │   └── RequestTimeoutError       … within the time allowed
    ├── APIError                      the service answered with an error
    │   ├── BadRequestError 400       ├── AuthenticationError 401   ├── PermissionDeniedError 403
    │   ├── NotFoundError 404         ├── ConflictError 409         ├── PayloadTooLargeError 413
    │   ├── ValidationError 422       ├── RateLimitError 429        └── ServerError 5xx
    ├── ResponseDecodeError           the service answered, but the answer cannot be read
    │   └── AnswerMismatchError       … because it belongs to another request
    ├── OutcomeUnknownError           a write was sent, and it is unknown whether it was carried out
    ├── ExternalIdTakenError          a different payment already has the external_id of the new one
    ├── PaginationError               a walk cannot be completed
    └── ExportError                   an export cannot be written, or cannot be read back
        ├── AlreadyRunningError       … because another export to that file or sync of that copy is running
        └── VerificationError         … because it does not match its manifest

All of them can be pickled, and none contains a credential.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from http import HTTPStatus
from typing import Any, ParamSpec, TypeVar

from b2b_payments._printable import printable

_LONGEST_FIELDS = 2_000
"""The most characters of an error's text that list its fields."""
_LONGEST_SHOWN = 80
P = ParamSpec("P")
T = TypeVar("T")


def shown(value: object) -> str:
    """Return the `repr` of a caller's value for an error message: shortened, and never raising."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - an int of thousands of digits, or a caller's own __repr__
        return f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def describe_safely(failure: B2BPaymentsError) -> str:
    """Describe a failure without quoting any text that the service sent."""
    if not isinstance(failure, APIError):
        return failure.message.rstrip(".")
    code = failure.status if failure.status >= 300 or failure.code is None else failure.code
    title = next((status.phrase for status in HTTPStatus if status == code), "an error")
    return f"{code} {title}" if code == failure.status else f"{failure.status} with code {code}: {title}"


class B2BPaymentsError(Exception):
    """The base class of every error that this library raises.

    `message` may quote the service unchanged; ``str(error)`` escapes control characters.
    """

    message: str = ""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return printable(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        # Subclasses take keyword-only arguments, which Exception's own pickling would lose.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[B2BPaymentsError], args: tuple[Any, ...], state: dict[str, Any]) -> B2BPaymentsError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(B2BPaymentsError, ValueError):
    """An argument or a setting is invalid, or the client was used wrongly. Nothing was sent."""


class TransportError(B2BPaymentsError):
    """No complete answer was received: the connection was refused, reset or closed early.

    `sent` is False only if the request certainly never reached the service. `lasting` is True if trying again
    cannot help until something is fixed, such as an unknown host or an untrusted certificate.
    """

    def __init__(self, message: str, *, sent: bool = True, lasting: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        self.lasting = lasting


class RequestTimeoutError(TransportError, TimeoutError):
    """No complete answer was received within the attempt's timeout or the call's deadline.

    `retry_after` is the wait for the store's quota that the deadline did not allow, in seconds; None if time
    ran out for another reason.
    """

    def __init__(
        self, message: str, *, sent: bool = True, lasting: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message, sent=sent, lasting=lasting)
        self.retry_after = retry_after


class APIError(B2BPaymentsError):
    """The service answered with an error.

    `status` is the HTTP status, `code` the one in the body (None if it has none). `errors` maps each
    rejected field to the service's messages (a nested field by its path, ``line_items[1].invoice_id``).
    `request_id` is its `X-Request-Id` or `Trace-Id`, `url` the request's URL without its query, `retry_after`
    the wait that the service asks for, in seconds (None if it does not).
    """

    status: int = 0
    code: int | None = None
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
        status = str(self.status)
        if self.status < 300 and self.code is not None:  # the body's code is what failed
            status += f" with code {self.code}:"
        return printable(f"{where}{status} {self.message}{fields}{request}")


class BadRequestError(APIError):
    """400: the service rejects the request, e.g. an operation that the payment does not allow."""


class AuthenticationError(APIError):
    """401: the credential is wrong, expired, or lacks the scope (may also show as 403 or 404 [seen])."""


class PermissionDeniedError(APIError):
    """403: the credential does not permit this request."""


class NotFoundError(APIError):
    """404: the payment does not exist, or the credential may not see it [seen]."""


class ConflictError(APIError):
    """409: the request conflicts with the payment's current state."""


class PayloadTooLargeError(APIError):
    """413: the requested page size is larger than the service allows."""


class ValidationError(APIError):
    """422: the service rejects the data. `errors` names each field that is wrong, and why."""


class RateLimitError(APIError):
    """429: the store's quota is used up, by this or another integration.

    A requested wait (`retry_after`) of more than an hour is not waited for.
    """


class ServerError(APIError):
    """5xx, from the service or a gateway before it. A wrong store hash may be answered this way [doc]."""


class ResponseDecodeError(B2BPaymentsError):
    """The answer does not match the service's documentation.

    `paths` are the places that do not, e.g. ``$.data[3].total.value``. `too_large` is True if the answer was
    not read because it exceeds this library's limits, which are far above any real answer.
    """

    paths: Sequence[str] = ()
    too_large: bool = False

    def __init__(self, message: str, *, paths: Sequence[str] = (), too_large: bool = False) -> None:
        super().__init__(message)
        self.paths = list(paths)
        self.too_large = too_large


class AnswerMismatchError(ResponseDecodeError):
    """The answer is about a payment or page other than the one requested: it belongs to another request.

    This happens when a proxy mixes up answers, or when one arrives late or twice on a reused connection.
    `said` is what the answer is about, if the service might answer that to every request (else None);
    `in_part` is True if some of its payments do match the request.
    """

    def __init__(self, message: str, *, paths: Sequence[str] = (), said: str | None = None) -> None:
        super().__init__(message, paths=paths)
        self.said = said
        self.in_part = False


class OutcomeUnknownError(B2BPaymentsError):
    """A write was sent, but whether it was carried out could not be determined.

    Do not repeat the write before checking: the service has no idempotency key [doc], and its lists may lag a
    write by about 20 minutes [seen]. `look_for` is what to search for, e.g. ``{"externalId": "INV-7"}``.
    ``client.payments.settle(error)`` checks again, also days later in another process: errors can be pickled.
    `write` is the plain data that `settle` needs; the error's text never shows it.
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
    """A different payment already has the `external_id` of the one to be created. Nothing was created.

    `payment_id` is the existing payment. `differences` maps each field that differs (``customer_id``,
    ``currency``, ``sum``) to its value there and the requested one.
    """

    def __init__(
        self, message: str, *, payment_id: int, differences: Mapping[str, tuple[str, str]] | None = None
    ) -> None:
        super().__init__(message)
        self.payment_id = payment_id
        self.differences: dict[str, tuple[str, str]] = dict(differences or {})


class PaginationError(B2BPaymentsError):
    """A walk cannot be completed exactly.

    The payments it yielded so far are valid. `checkpoint` is where it stopped.
    """

    def __init__(self, message: str, *, checkpoint: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.checkpoint: dict[str, Any] = dict(checkpoint or {})


class ExportError(B2BPaymentsError):
    """An export could not be written or read back: e.g. the disk is full, or the target disappeared.

    `resumable` is False if an interrupted export cannot be resumed, so that it has to be started again.
    """

    resumable: bool = True

    def __init__(self, message: str, *, resumable: bool = True) -> None:
        super().__init__(message)
        self.resumable = resumable


class AlreadyRunningError(ExportError):
    """Another sync of the same copy, or export to the same file, is running, so this one can be skipped."""


class VerificationError(ExportError):
    """An export does not match its manifest."""


for _error in (*globals().values(),):
    if isinstance(_error, type) and issubclass(_error, B2BPaymentsError):
        _error.__module__ = "b2b_payments"  # the public module, for tracebacks and pickles


def without_data(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function that is given the service's data: no error's traceback shows its local variables.

    Programs that report errors may report these, too, and rows are personal data.
    """

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except B2BPaymentsError as error:
            failure = error.with_traceback(None)
            failure.__context__ = None  # its traceback has frames, too
        del args, kwargs
        raise failure

    return wrapper
