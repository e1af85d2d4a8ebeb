"""Fixtures for tests of exports to an object store."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from b2b_payments.export._bucket import Bucket, bucket_and_name

Hook = Callable[[], None]
OnRequest = Callable[[Hook], None]
AtStep = Callable[[int, Hook], None]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
    """Return an empty in-memory bucket, with temporary files in `tmp_path`."""
    monkeypatch.setenv("AWS_TEST", str(tmp_path))
    monkeypatch.setattr("b2b_payments.export._location.gettempdir", lambda: str(tmp_path))
    return bucket_and_name("memory://bucket/p")[0]


@pytest.fixture
def on_request(monkeypatch: pytest.MonkeyPatch) -> OnRequest:
    """Return a function that sets a hook to call before each request to a store."""
    hooks: list[Hook] = [lambda: None]

    def hooked(real: Callable[..., Any]) -> Callable[..., Any]:
        def request(*args: Any, **options: Any) -> Any:
            hooks[0]()
            return real(*args, **options)

        return request

    for name in ("get", "version", "put", "upload", "sizes", "remove"):
        monkeypatch.setattr(Bucket, name, hooked(getattr(Bucket, name)))

    def begin(hook: Hook) -> None:
        hooks[0] = hook

    return begin


@pytest.fixture
def at_step(on_request: OnRequest) -> AtStep:
    """Return a function that sets a hook to call before the n-th request from now; 0 sets none."""

    def begin(number: int, happens: Hook) -> None:
        numbers = count(1)
        on_request(lambda: happens() if next(numbers) == number else None)

    return begin
