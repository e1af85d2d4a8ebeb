"""Whatever is half made can be shown: debuggers and error reporters show every variable of a frame."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterator
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import pytest

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
from b2b_payments._secret import Secret
from b2b_payments.export import CSVSink, DuckDBSink, JSONLSink, ParquetSink, SQLiteSink
from b2b_payments.sandbox import Sandbox
from b2b_payments.sync import DuckDBStore, SQLiteStore

AUTH = StoreAuth("abc123", "token")
MODULES = ("", "._auth", ".events", ".export", "._quota", "._resources.channels", "._resources.payments",
           ".sandbox", ".sync", ".tracing")  # fmt: skip


def public_classes() -> Iterator[type[Any]]:
    """Give every class that is exported, or that an exported object leads to."""
    found = dict[type[Any], None]()
    for module in (import_module(f"b2b_payments{name}") for name in MODULES):
        exported = getattr(module, "__all__", None)
        for one in [getattr(module, name) for name in exported or vars(module)]:
            if inspect.isclass(one) and one.__module__.startswith(
                "b2b_payments" if exported else module.__name__
            ):
                found[one] = None
    return (one for one in found if not issubclass(one, Enum) and not inspect.isabstract(one))


CLASSES = list(public_classes())


def test_the_classes_are_found() -> None:
    """The test below speaks of all that is public."""
    names = {one.__name__ for one in CLASSES}
    assert {"PaymentsClient", "Payment", "Money", "Walk", "APIError", "Rules", "Quota", "Page"} <= names
    assert {"DuckDBStore", "SyncReport", "JSONLSink", "Manifest", "CallStarted", "StoreAuth"} <= names
    assert len(names) > 60


@pytest.mark.parametrize("cls", CLASSES, ids=lambda one: one.__name__)
def test_half_made_it_has_a_repr(cls: type[Any]) -> None:
    """An object with nothing set, or one attribute alone, has a `repr`, and goes away without a word."""
    if getattr(cls, "_is_protocol", False):
        return
    new: Any = cls.__new__
    made = new(cls)
    assert cls.__name__ in repr(made) or cls is Secret
    assert repr([made])
    assert isinstance(str(made), str) or cls is Secret
    if isinstance(made, B2BPaymentsError):
        assert str(made) in {"", "0 "}
    if attrs.has(cls):
        first = attrs.fields(cls)[0]
        object.__setattr__(made, first.name, "marked")
        assert ("marked" in repr(made)) is bool(first.repr)
    del made
    gc.collect()


def test_a_failed_constructor_leaves_what_can_be_shown(tmp_path: Path) -> None:
    """What the traceback of a constructor that raised holds can be shown, and goes away without a word."""
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


HALF_MADE: dict[str, Callable[[], object]] = {
    "auth": lambda: PaymentsClient(StoreAuth.__new__(StoreAuth)),
    "retry": lambda: PaymentsClient(AUTH, retry=RetryPolicy.__new__(RetryPolicy)),
    "quota": lambda: PaymentsClient(AUTH, quota=Quota.__new__(Quota)),
    "OfflinePayment": lambda: offline_payment_body(OfflinePayment.__new__(OfflinePayment)),
    "OfflineLineItem": lambda: offline_payment_body(
        OfflinePayment("1", "USD", [OfflineLineItem.__new__(OfflineLineItem)])
    ),
}


@pytest.mark.parametrize("what", HALF_MADE)
def test_what_is_half_made_is_refused_by_name(what: str) -> None:
    """An argument that lacks its fields is a configuration error before anything is sent."""
    with pytest.raises(ConfigurationError, match=rf"{what} is half made: its \w+ is not set\."):
        HALF_MADE[what]()
