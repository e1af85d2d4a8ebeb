"""Async client for the invoice-payments API of BigCommerce B2B Edition."""

from importlib import import_module
from typing import TYPE_CHECKING

from b2b_payments._version import __version__

if TYPE_CHECKING:
    from b2b_payments.auth import LegacyAuth, StoreAuth
    from b2b_payments.client import PaymentsClient
    from b2b_payments.converter import from_wire, to_dict, to_wire
    from b2b_payments.errors import (
        AnswerMismatchError,
        APIError,
        AuthenticationError,
        B2BPaymentsError,
        BadRequestError,
        ConfigurationError,
        ConflictError,
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
    )
    from b2b_payments.models import (
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
    from b2b_payments.quota import Quota
    from b2b_payments.retry import RetryPolicy
    from b2b_payments.walk.paged import Page
    from b2b_payments.walk.report import WalkReport
    from b2b_payments.walk.stream import PaymentStream
    from b2b_payments.walk.walk import Walk
else:
    # Each name is imported when it is first asked for: `b2b-payments --help` needs no aiohttp, no cattrs.
    _HOMES = {
        "b2b_payments.auth": ["LegacyAuth", "StoreAuth"],
        "b2b_payments.client": ["PaymentsClient"],
        "b2b_payments.converter": ["from_wire", "to_dict", "to_wire"],
        "b2b_payments.errors": [
            "APIError",
            "AnswerMismatchError",
            "AuthenticationError",
            "B2BPaymentsError",
            "BadRequestError",
            "ConfigurationError",
            "ConflictError",
            "NotFoundError",
            "OutcomeUnknownError",
            "PaginationError",
            "PayloadTooLargeError",
            "PermissionDeniedError",
            "RateLimitError",
            "RequestTimeoutError",
            "ResponseDecodeError",
            "ServerError",
            "TransportError",
            "ValidationError",
        ],
        "b2b_payments.models": [
            "Card",
            "Channel",
            "Fee",
            "LineItem",
            "Money",
            "OfflineLineItem",
            "OfflinePayment",
            "Operation",
            "OrderBy",
            "Payment",
            "PaymentOperations",
            "ProcessingStatus",
            "SearchBy",
            "SortBy",
            "Transaction",
        ],
        "b2b_payments.quota": ["Quota"],
        "b2b_payments.retry": ["RetryPolicy"],
        "b2b_payments.walk.paged": ["Page"],
        "b2b_payments.walk.report": ["WalkReport"],
        "b2b_payments.walk.stream": ["PaymentStream"],
        "b2b_payments.walk.walk": ["Walk"],
    }
    _HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

    def __getattr__(name):
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = [
    "APIError",
    "AnswerMismatchError",
    "AuthenticationError",
    "B2BPaymentsError",
    "BadRequestError",
    "Card",
    "Channel",
    "ConfigurationError",
    "ConflictError",
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
    "ResponseDecodeError",
    "RetryPolicy",
    "SearchBy",
    "ServerError",
    "SortBy",
    "StoreAuth",
    "Transaction",
    "TransportError",
    "ValidationError",
    "Walk",
    "WalkReport",
    "__version__",
    "from_wire",
    "to_dict",
    "to_wire",
]
