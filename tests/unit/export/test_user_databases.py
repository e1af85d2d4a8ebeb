"""Random databases with the user's own tables, indexes, views and triggers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from b2b_payments.sandbox import Sandbox
from benchmarks.user_databases import tried


@pytest.mark.slow
def test_nothing_of_the_users_changes(tmp_path: Path) -> None:
    """Exports and syncs leave the user's tables, views, indexes and triggers unchanged."""
    payments = list(Sandbox(payments=30).store.all_wire())
    outcomes = Counter(tried(tmp_path, seed, payments) for seed in range(18))
    assert outcomes.keys() == {"exported", "copied", "refused"}, outcomes
