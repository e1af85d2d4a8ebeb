"""The blocking API mirrors the async one, name by name and parameter by parameter."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

import b2b_payments
from b2b_payments import ConfigurationError, StoreAuth, blocking
from b2b_payments._resources.channels import Channels
from b2b_payments._resources.payments import Payments
from b2b_payments._walk.pager import Iteration

PAIRS: list[tuple[type[Any], type[Any]]] = [
    (b2b_payments.PaymentsClient, blocking.PaymentsClient),
    (Payments, blocking.Payments),
    (Channels, blocking.Channels),
    (b2b_payments.Walk, blocking.Walk),
    (b2b_payments.PaymentStream, blocking.PaymentStream),
    (Iteration, blocking.Iteration),
    (b2b_payments.Changes, blocking.Changes),
]
OTHER_NAMES = {
    "aclose": "close",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
}
NOT_FOR_CALLERS = {"joined"}
BUILT_OTHERWISE = {"from_env", "with_options", "__exit__"}


def public(cls: type[Any]) -> Iterator[str]:
    """Yield the public names of a class."""
    for name in dir(cls):
        if (not name.startswith("_") and name not in NOT_FOR_CALLERS) or name in OTHER_NAMES:
            yield name


@pytest.mark.parametrize(("awaited", "blocked"), PAIRS, ids=lambda cls: cls.__qualname__)
def test_nothing_is_missing(awaited: type[Any], blocked: type[Any]) -> None:
    """Each public method and property is there in the blocking class, takes the same, and is not async.

    If this fails, add a line to `blocking.py`: ``name: Final = _makes(…, BackgroundLoop.wait)``.
    """
    for name in public(awaited):
        other = OTHER_NAMES.get(name, name)
        assert hasattr(blocked, other), f"{blocked.__qualname__}.{other} is missing in blocking.py"
        mine, theirs = inspect.getattr_static(blocked, other), inspect.getattr_static(awaited, name)
        assert isinstance(mine, property) == isinstance(theirs, property), other
        if not isinstance(mine, property):
            mine, theirs = getattr(blocked, other), getattr(awaited, name)
            assert not inspect.iscoroutinefunction(mine), other
            assert inspect.getdoc(mine) or other.startswith("__"), other
            if other not in BUILT_OTHERWISE:
                assert _parameters(mine) == _parameters(theirs), other


def _parameters(function: Any) -> list[tuple[str, Any, Any]]:
    parameters = inspect.signature(function).parameters.values()
    return [(one.name, one.kind, one.default) for one in parameters][1:]


@pytest.mark.parametrize(("awaited", "blocked"), PAIRS, ids=lambda cls: cls.__qualname__)
def test_nothing_is_added(awaited: type[Any], blocked: type[Any]) -> None:
    """The blocking class has no public name that the async one does not have."""
    known = {OTHER_NAMES.get(name, name) for name in public(awaited)}
    assert set(public(blocked)) <= known


def test_settings_match_the_async_client() -> None:
    """The constructor takes and refuses the same settings, before any thread is started."""
    with pytest.raises(ConfigurationError, match="timeout must be seconds"):
        blocking.PaymentsClient(StoreAuth("abc123", "token-1"), timeout=0)
    client = blocking.PaymentsClient(StoreAuth("abc123", "token-1"), timeout=3)
    assert client._async._caller.timeout == 3.0
    assert "token-1" not in repr(client)


def test_every_class_is_exported() -> None:
    """The module exports every class that callers may name in annotations."""
    assert {blocked.__name__ for _, blocked in PAIRS} == set(blocking.__all__)
