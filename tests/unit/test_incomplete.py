"""Incomplete objects can be shown: debuggers and error reporters show every variable of a frame."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterator
from enum import Enum
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import attrs
import pytest
from msgspec import Struct

import b2b_payments
from b2b_payments import (
    B2BPaymentsError,
    ConfigurationError,
    OfflineLineItem,
    OfflinePayment,
    PaymentsClient,
    Quota,
    RetryPolicy,
    StoreAuth,
)
from b2b_payments._converter import offline_payment_body
from b2b_payments.export import CSVSink, DuckDBSink, JSONLSink, ParquetSink, SQLiteSink
from b2b_payments.sandbox import Sandbox
from b2b_payments.sync import DuckDBStore, SQLiteStore

AUTH = StoreAuth("abc123", "token")


def classes() -> Iterator[type[Any]]:
    """Yield the package's concrete classes, except those whose repr comes from a library."""
    found = dict[type[Any], None]()
    for module in walk_packages(b2b_payments.__path__, "b2b_payments."):
        if not module.name.endswith("__main__"):
            found |= dict.fromkeys(filter(inspect.isclass, vars(import_module(module.name)).values()))
    for one in found:
        shown_by = next(base.__module__ for base in one.__mro__ if "__repr__" in vars(base))
        abstract = inspect.isabstract(one) or getattr(one, "_is_protocol", False)
        is_complete = issubclass(one, (Enum, tuple, Struct))
        ours = one.__module__.startswith("b2b_payments") and shown_by.startswith(("b2b_payments", "builtins"))
        if ours and not abstract and not is_complete:
            yield one


def test_incomplete_objects_have_a_repr() -> None:
    """An object with nothing set, or only its first field, has a `repr`, and is deleted silently."""
    names = set[str]()
    for cls in classes():
        new: Any = cls.__new__
        made = new(cls)
        said = f"{made!r} {made}"
        if isinstance(made, B2BPaymentsError):
            assert str(made) in {"", "0 "}
        if attrs.has(cls):
            assert cls.__name__ in said
            first = attrs.fields(cls)[0]
            object.__setattr__(made, first.name, "marked")
            assert ("marked" in repr(made)) is bool(first.repr), cls
        del made
        names.add(cls.__name__)
    gc.collect()
    assert {"PaymentsClient", "Payment", "Walk", "APIError", "Rules", "Quota", "Caller", "Join"} <= names
    assert len(names) > 150


def test_failed_constructor_leaves_objects_that_can_be_shown(tmp_path: Path) -> None:
    """All local variables in the traceback of a failed constructor have a `repr`."""
    wrong: Any = 5
    folder = tmp_path / "nowhere" / "file"
    failing: list[Any] = [
        lambda: PaymentsClient(wrong),
        lambda: OfflineLineItem(1, "much"),
        lambda: OfflinePayment("1", "USD", [OfflineLineItem(1, 1)], payer_name="\ud800"),
        *(lambda cls=cls: cls(folder) for cls in (JSONLSink, CSVSink, SQLiteSink, DuckDBSink, ParquetSink)),
        *(lambda cls=cls: cls(folder) for cls in (SQLiteStore, DuckDBStore)),
        lambda: Sandbox(payments=-1),
    ]
    for make in failing:
        with pytest.raises((ConfigurationError, ValueError)) as caught:
            make()
        held = [value for frame in caught.traceback for value in frame.frame.f_locals.values()]
        assert all(map(repr, held))
        del held, caught
    gc.collect()


INCOMPLETE: dict[str, Callable[[], object]] = {
    "auth": lambda: PaymentsClient(StoreAuth.__new__(StoreAuth)),
    "retry": lambda: PaymentsClient(AUTH, retry=RetryPolicy.__new__(RetryPolicy)),
    "quota": lambda: PaymentsClient(AUTH, quota=Quota.__new__(Quota)),
    "from_env": lambda: PaymentsClient.from_env(quota=Quota.__new__(Quota)),
    "OfflinePayment": lambda: offline_payment_body(OfflinePayment.__new__(OfflinePayment)),
    "OfflineLineItem": lambda: offline_payment_body(
        OfflinePayment("1", "USD", [OfflineLineItem.__new__(OfflineLineItem)])
    ),
}


@pytest.mark.parametrize("what", INCOMPLETE)
def test_incomplete_argument_is_refused_by_name(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument without its fields is a configuration error before anything is sent."""
    monkeypatch.setenv("B2B_PAYMENTS_AUTH_TOKEN", "token")
    argument = {"from_env": "quota"}.get(what, what)
    with pytest.raises(ConfigurationError, match=rf"{argument} is incomplete: its \w+ is not set\."):
        INCOMPLETE[what]()
