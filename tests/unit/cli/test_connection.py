"""What is said while a command waits."""

from __future__ import annotations

import pytest

from b2b_payments.cli.connection import patience
from b2b_payments.events import Event, PageJoined, QuotaWait, RetryScheduled


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (
            RetryScheduled("payments.get", 2, 1.26, "ambiguous"),
            "attempt 2 failed (ambiguous), the next in 1.3 s",
        ),
        (QuotaWait(12.4, "closed"), "waiting 12 s for the store's quota"),
        (QuotaWait(3.0, "in flight"), None),
        (PageJoined(0, 250, 250, 1000), None),
    ],
)
def test_patience(event: Event, words: str | None) -> None:
    """Retries and waits for the quota are told of, a wait for an answer under way is not."""
    assert patience(event) == words
