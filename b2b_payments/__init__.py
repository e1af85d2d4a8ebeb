"""Async client for the invoice-payments API of BigCommerce B2B Edition."""

from importlib import import_module
from typing import TYPE_CHECKING

from b2b_payments._version import __version__

if TYPE_CHECKING:
    from b2b_payments._auth import LegacyAuth, StoreAuth
    from b2b_payments._changes.feed import Change, Changes
    from b2b_payments._client import PaymentsClient
    from b2b_payments._converter import from_wire, to_dict, to_wire
    from b2b_payments._errors import (
        AlreadyRunningError,
        AnswerMismatchError,
        APIError,
        AuthenticationError,
        B2BPaymentsError,
        BadRequestError,
        ConfigurationError,
        ConflictError,
        ExportError,
        ExternalIdTakenError,
        NotFoundError,
        OutcomeUnknownError,
        PaginationError,
        PayloadTooLargeError,
        PermissionDeniedError,
        RateLimitError,
        RequestTimeoutError,
        ResponseDecodeError,
        ServerError,
        TransportError,
        ValidationError,
        VerificationError,
    )
    from b2b_payments._models import (
        Card,
        Channel,
        Fee,
        LineItem,
        Money,
        OfflineLineItem,
        OfflinePayment,
        Operation,
        OrderBy,
        Payment,
        PaymentOperations,
        ProcessingStatus,
        SearchBy,
        SortBy,
        Transaction,
    )
    from b2b_payments._protocol.response import Response
    from b2b_payments._quota import Quota
    from b2b_payments._retry import RetryPolicy
    from b2b_payments._walk.pager import Page
    from b2b_payments._walk.report import WalkReport
    from b2b_payments._walk.stream import PaymentStream
    from b2b_payments._walk.walk import Walk
else:
    # Each name is imported when it is first asked for: `b2b-payments --help` needs no aiohttp, no cattrs.
    # The homes that import least are looked into first; a client needs them all.
    _HOMES = (
        "_errors",
        "_auth",
        "_retry",
        "_walk.report",
        "_models",
        "_quota",
        "_protocol.response",
        "_converter",
        "_walk.pager",
        "_walk.walk",
        "_walk.stream",
        "_changes.feed",
        "_client",
    )

    def __getattr__(name):
        for home in _HOMES if name in __all__ else ():
            found = vars(import_module(f"b2b_payments.{home}"))
            if name in found:
                value = globals()[name] = found[name]
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = [
    "APIError",
    "AlreadyRunningError",
    "AnswerMismatchError",
    "AuthenticationError",
    "B2BPaymentsError",
    "BadRequestError",
    "Card",
    "Change",
    "Changes",
    "Channel",
    "ConfigurationError",
    "ConflictError",
    "ExportError",
    "ExternalIdTakenError",
    "Fee",
    "LegacyAuth",
    "LineItem",
    "Money",
    "NotFoundError",
    "OfflineLineItem",
    "OfflinePayment",
    "Operation",
    "OrderBy",
    "OutcomeUnknownError",
    "Page",
    "PaginationError",
    "PayloadTooLargeError",
    "Payment",
    "PaymentOperations",
    "PaymentStream",
    "PaymentsClient",
    "PermissionDeniedError",
    "ProcessingStatus",
    "Quota",
    "RateLimitError",
    "RequestTimeoutError",
    "Response",
    "ResponseDecodeError",
    "RetryPolicy",
    "SearchBy",
    "ServerError",
    "SortBy",
    "StoreAuth",
    "Transaction",
    "TransportError",
    "ValidationError",
    "VerificationError",
    "Walk",
    "WalkReport",
    "__version__",
    "from_wire",
    "to_dict",
    "to_wire",
]
