"""The invoice-payments service on a real socket of this machine, with a store, rules and faults to order."""

from __future__ import annotations

from b2b_payments.sandbox.drift import Drift
from b2b_payments.sandbox.faults import Fault
from b2b_payments.sandbox.listing import Listing, ListQuery
from b2b_payments.sandbox.rules import Rules
from b2b_payments.sandbox.seen import SeenRequest
from b2b_payments.sandbox.server import Sandbox
from b2b_payments.sandbox.store import Store

__all__ = ["Drift", "Fault", "ListQuery", "Listing", "Rules", "Sandbox", "SeenRequest", "Store"]
