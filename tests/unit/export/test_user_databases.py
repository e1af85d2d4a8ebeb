"""Databases of the user's, drawn at random."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from b2b_payments.sandbox import Sandbox
from benchmarks.user_databases import tried


@pytest.mark.slow
def test_nothing_of_the_users_changes(tmp_path: Path) -> None:
    """Whatever tables, views, indexes and triggers stand there, exports and syncs leave them as they are."""
    payments = list(Sandbox(payments=30).store.all_wire())
    came = Counter(tried(tmp_path, seed, payments) for seed in range(18))
    assert came.keys() == {"exported", "copied", "refused"}, came
