"""The rules in Lua, for Redis, are those in Python, number for number."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2b_payments._quota import Priority, Quota, QuotaReading
from b2b_payments._quota import redis as redis_module
from b2b_payments._quota.state import pack, terms_of
from b2b_payments._quota.window import Report, ReportKind, Window
from tests.support.redis_server import RedisServer

QUOTAS = st.builds(
    Quota,
    st.integers(1, 12),
    st.floats(0.5, 10),
    share=st.floats(0.1, 1),
    margin=st.floats(0, 1),
    reserve=st.just(0),
).flatmap(
    lambda quota: st.integers(0, quota.limit - 1).map(lambda reserve: attrs.evolve(quota, reserve=reserve))
)
READINGS = st.builds(
    QuotaReading,
    remaining=st.none() | st.integers(-1, 15),
    resets_after=st.none() | st.floats(-1, 12) | st.just(float("nan")) | st.just(1e9),
    allocated=st.none() | st.tuples(st.integers(-1, 20), st.floats(-1, 1e4)),
)
ASKS = st.tuples(st.integers(1, 4), st.sampled_from(Priority), st.floats(0, 5))
REPORTS = st.tuples(
    st.sampled_from([kind for kind in ReportKind if kind is not ReportKind.WITHDRAWN]),
    st.integers(0, 9),
    READINGS,
    st.floats(0, 12),
    st.floats(0, 1),
)
STEPS = st.lists(st.tuples(st.floats(0, 4), ASKS | REPORTS | st.integers(1, 4)), min_size=1, max_size=30)


@pytest.fixture(scope="module")
def server() -> Iterator[redis_module._Server]:
    """Yield a server whose clock is passed with each call."""
    source = files("b2b_payments._quota").joinpath("window.lua").read_text()
    by_hand = source.replace("redis.call('TIME')", "cmsgpack.unpack(ARGV[2])")
    assert by_hand != source
    with RedisServer() as started:
        server = redis_module._Server(started.url)
        server._script = server._client.register_script(redis_module.script(by_hand))
        yield server
        server._client.close()


@given(quotas=st.sets(QUOTAS, min_size=1, max_size=2), steps=STEPS)
def test_lua_and_python_agree(
    server: redis_module._Server, quotas: set[Quota], steps: list[tuple[float, Any]]
) -> None:
    """Whatever is requested and reported, both return the same, and end in the same state."""
    server._client.flushall()
    window, now, key = Window(*quotas), 1000.0, 0
    granted: list[tuple[int, float]] = []
    for seconds, step in steps:
        now += seconds
        ask: tuple[Any, ...] = ()
        reports: list[Report] = []
        expected = None
        if isinstance(step, int):
            reports = [Report(ReportKind.WITHDRAWN, step)]
        elif len(step) == 3:
            member, priority, ago = step
            expected = window.try_acquire(member, priority, now - ago, now)
            if expected.key is not None:
                granted.append((expected.key, now))
            ask = (member, priority, now - ago, expected.key or key)
        elif granted:
            kind, which, reading, pause, chance = step
            key, at = granted[which % len(granted)]
            reports = [Report(kind, key, at, reading, pause, chance)]
        for report in reports:
            window.record(report, now)
        wire = [redis_module._wire(report) for report in reports]
        call: tuple[Any, ...] = (1, terms_of(quotas), 0, 0, 0, wire, ask, [], float("-inf"))
        encode = msgspec.msgpack.encode
        reply: Any = server._script(keys=["window"], args=[encode(call), encode([now, 0])])
        kept, verdict = server.read(reply)
        assert verdict == expected
        assert kept.now == now
        ours, theirs = pack(window, []), msgspec.structs.replace(kept.window, sharers=[])
        for state in (ours, theirs):
            state.claims.sort()
        assert theirs == ours
