"""Findings drawn from hand-made evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from b2b_payments import Quota, StoreAuth
from b2b_payments._auth import LegacyAuth
from b2b_payments._doctor import access, lists, rows
from b2b_payments._doctor.evidence import Evidence, Observation, Question, page, plain
from b2b_payments._doctor.findings import findings
from b2b_payments._protocol.request import list_channels
from b2b_payments._quota import QuotaReading
from tests.support.examples import LISTED_PAYMENT

_TOKEN = "token"


def _evidence(*observations: Observation, quota: Quota | None = None) -> Evidence:
    auth = StoreAuth(store_hash="abc123", access_token=_TOKEN)
    return Evidence(auth, quota, len(observations), {one.question.name: one for one in observations})


def _observation(
    question: Question, data: Sequence[dict[str, Any]], total: int | None = None, **more: Any
) -> Observation:
    pagination = {} if total is None else {"totalCount": total}
    return Observation(question, data=list(data), pagination=pagination, **more)


def _rows(*ids: int, **more: Any) -> list[dict[str, Any]]:
    return [{"id": one, "createdAt": 1_000 + one, **more} for one in ids]


def test_findings_without_evidence() -> None:
    """Without any response there is one finding; without payments, no other topic is a problem."""
    assert {topic: one.level for topic, one in findings(_evidence()).items()} == {"authentication": "problem"}
    evidence = _evidence(_observation(plain(), []))
    levels = {one.level for topic, one in findings(evidence).items() if topic != "authentication"}
    assert levels <= {"unknown", "fine", "note"}


def test_payments_of_another_store() -> None:
    """Payments that name a different store than the credential are a problem; a legacy token names none."""
    first = _observation(page("first", 250), _rows(1, 2, storeHash="other"))
    assert rows.store(_evidence(first)).verdict == "another"
    old = Evidence(LegacyAuth(_TOKEN), None, 1, {"first": first})
    assert rows.store(old).level == "unknown"


def test_unreadable_channel() -> None:
    """A channel that cannot be read is a problem, and the finding says why."""
    first = _observation(page("first", 250), [LISTED_PAYMENT])
    channels = _observation(Question("channels", list_channels()), [{"id": "x", "channelId": 1}])
    finding = rows.unreadable(_evidence(first, channels))
    assert (finding.level, finding.verdict) == ("problem", "some")
    assert "in a channel, " in finding.seen


def test_total_that_is_too_large() -> None:
    """A total is too large if the newest payment is at a much lower row."""
    first = _observation(page("first", 2), _rows(1, 2), 40)
    last = _observation(page("last", 2), _rows(5, 4), 40)
    tail = _observation(page("tail", 2, 3), _rows(4, 5), 40)
    assert lists.totals(_evidence(first, last, tail)).verdict == "too large"


@pytest.mark.parametrize(
    ("quota", "level", "advice"),
    [
        (Quota(100, 30), "fine", ""),
        (Quota(150, 60), "note", "Set Quota(100, 30), or --quota 100/30."),
        (None, "note", "Set --quota 100/30."),
    ],
)
def test_stated_quota(quota: Quota | None, level: str, advice: str) -> None:
    """If the stated quota differs from the configured one, the advice shows how to set it."""
    reading = QuotaReading(remaining=99, resets_after=1.0, allocated=(100, 30.0))
    finding = access.quota(_evidence(_observation(plain(), [], reading=reading), quota=quota))
    assert (finding.level, finding.advice) == (level, advice)


def _readings(left: Sequence[int], resets: Sequence[float], *, every: float = 0.1) -> Evidence:
    return _evidence(
        *(
            _observation(
                plain(f"q{place}"),
                [],
                reading=QuotaReading(remaining=one, resets_after=reset, allocated=(150, 60.0)),
                monotonic=place * every,
                requests_so_far=place + 1,
            )
            for place, (one, reset) in enumerate(zip(left, resets, strict=True))
        )
    )


@pytest.mark.parametrize(
    ("left", "resets", "verdict"),
    [
        (range(149, 139, -1), [60 - 0.1 * place for place in range(10)], "fixed or sliding"),
        (range(149, 139, -1), [0.4 * (1 + place) for place in range(10)], "leaky bucket"),
        (range(149, 139, -1), [7.0 * (1 + place) for place in range(10)], "unknown"),
        ((149, 148), (60.0, 60.0), "unknown"),
    ],
)
def test_kind_of_quota_window(left: Sequence[int], resets: Sequence[float], verdict: str) -> None:
    """A window has a reset time that does not move; a leaky bucket's moves away with each request."""
    assert access.window(_readings(left, resets)).verdict == verdict


def test_other_programs() -> None:
    """If the quota shrinks by more than the requests sent here, other programs used it."""
    assert access.other_programs(_readings((149, 148, 147), (1.0,) * 3)).verdict == "none seen"
    assert "others sent 5 requests" in access.other_programs(_readings((149, 146, 142), (1.0,) * 3)).seen
