"""The invoice-payments service on a real local socket, with its own store, rules, and faults on request."""

from __future__ import annotations

from b2b_payments.sandbox._drift import Drift
from b2b_payments.sandbox._faults import Fault, SeenRequest
from b2b_payments.sandbox._listing import Listing, ListQuery
from b2b_payments.sandbox._rules import Rules
from b2b_payments.sandbox._server import Sandbox
from b2b_payments.sandbox._store import Store

__all__ = ["Drift", "Fault", "ListQuery", "Listing", "Rules", "Sandbox", "SeenRequest", "Store"]
