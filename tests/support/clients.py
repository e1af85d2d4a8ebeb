"""Clients for tests."""

from __future__ import annotations

from typing import Any

from b2b_payments import PaymentsClient, RetryPolicy
from b2b_payments.sandbox import Sandbox

QUICK = RetryPolicy(attempts=5, base_delay=0.001, max_delay=0.002, outage=0)
"""Waits too short to notice, and five attempts, for pages too."""

NEVER = RetryPolicy(attempts=1)


def client_of(sandbox: Sandbox, **settings: Any) -> PaymentsClient:
    """Return a client of this sandbox that retries at once and has no quota; `settings` take precedence."""
    given = {"base_url": sandbox.base_url, "quota": None, "retry": QUICK, "timeout": 5.0} | settings
    return PaymentsClient(given.pop("auth", sandbox.auth), **given)
