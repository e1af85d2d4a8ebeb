"""Frozen classes for the objects that the service returns and those that it is asked to record."""

from __future__ import annotations

from b2b_payments._models.channel import Channel
from b2b_payments._models.enums import Operation, OrderBy, ProcessingStatus, SearchBy, SortBy
from b2b_payments._models.money import Money
from b2b_payments._models.offline_payment import OfflineLineItem, OfflinePayment
from b2b_payments._models.payment import Fee, LineItem, Payment, PaymentOperations
from b2b_payments._models.transaction import Card, Transaction

__all__ = [
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
]
