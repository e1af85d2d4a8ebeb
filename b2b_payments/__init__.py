"""Async client for the invoice-payments API of BigCommerce B2B Edition."""

from b2b_payments._version import __version__
from b2b_payments.auth import LegacyAuth, StoreAuth
from b2b_payments.client import PaymentsClient
from b2b_payments.converter import to_wire
from b2b_payments.errors import (
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

__all__ = [
    "APIError",
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
    "to_wire",
]
