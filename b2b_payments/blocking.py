"""The same client without `await`, for scripts, Django, Flask, notebooks::

    with PaymentsClient(StoreAuth(store_hash="abc123", access_token="…")) as client:
        for payment in client.payments.list():
            ...

Every method has the parameters, results and errors of its namesake in `b2b_payments`. From `open` to `close`,
a client runs an event loop in its own thread, where its callback (`on_event`) runs. Any thread may use it.
"""

from __future__ import annotations

import atexit
import copy
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import suppress
from functools import wraps
from typing import Any, Concatenate, Final, Generic, ParamSpec, Protocol, Self, TypeVar, Unpack

from b2b_payments import _client
from b2b_payments._auth import LegacyAuth, StoreAuth
from b2b_payments._background import BackgroundLoop
from b2b_payments._changes import feed
from b2b_payments._errors import ConfigurationError
from b2b_payments._models import Payment
from b2b_payments._resources import channels, payments
from b2b_payments._walk import pager, reader, stream, walk
from b2b_payments._walk.report import WalkReport

__all__ = ["Changes", "Channels", "Iteration", "PaymentStream", "Payments", "PaymentsClient", "Walk"]

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
A_co = TypeVar("A_co", covariant=True)
W_co = TypeVar("W_co", bound=pager.Pager, covariant=True)


class _Blocking(Generic[A_co]):
    """Wraps an object of the async API."""

    def __init__(self, loop: BackgroundLoop, inner: A_co) -> None:
        self._loop = loop
        self._async = inner


def _makes(
    method: Callable[Concatenate[A, P], T], kind: Callable[[BackgroundLoop, T], B]
) -> Callable[Concatenate[_Blocking[A], P], B]:
    """Make a blocking method from an async class's method: `kind` converts its result."""

    @wraps(method)
    def call(self: _Blocking[A], /, *args: P.args, **kwargs: P.kwargs) -> B:
        return kind(self._loop, method(self._async, *args, **kwargs))

    return call


class _Source(Protocol[A_co]):
    def __anext__(self) -> Awaitable[A_co]: ...
    def aclose(self) -> Coroutine[Any, Any, None]: ...


def _each(
    loop: BackgroundLoop, source: _Source[A], items: Callable[[A], Iterable[T]]
) -> Generator[T, None, None]:
    async def next_page() -> A | None:
        return await anext(source, None)

    try:
        # One round trip to the loop for each page, not for each payment.
        while (page := loop.wait(next_page())) is not None:
            yield from items(page)
    finally:
        with suppress(ConfigurationError):  # the loop has ended, or closes it itself: this is its thread
            loop.wait(source.aclose())


class _Iterating(_Blocking[Any], Iterator[T]):
    def __init__(self, loop: BackgroundLoop, source: _Source[A], items: Callable[[A], Iterable[T]]) -> None:
        super().__init__(loop, source)
        self._items = _each(loop, source, items)

    def checkpoint(self) -> dict[str, Any]:
        """Return this iteration's position, from which another one can resume."""
        return self._async.checkpoint()  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[T]:  # noqa: PYI034
        return self._items

    def __next__(self) -> T:
        return next(self._items)

    def close(self) -> None:
        """Cancel requests in progress. May be called twice."""
        self._items.close()


class Iteration(_Iterating[T]):
    """One iteration of a walk. If it is left early or deleted, it is closed and sends no more requests."""

    @property
    def report(self) -> WalkReport:
        """The report of this iteration, updated while it runs."""
        return self._async.report  # type: ignore[no-any-return]


class Changes(_Iterating[feed.Change]):
    """The changes of a store, oldest first. If it is left early or deleted, it is closed."""

    def __init__(self, loop: BackgroundLoop, changes: feed.Changes) -> None:
        super().__init__(loop, changes, lambda change: (change,))
        self.report: feed.ChangesReport = changes.report


def _same(_: BackgroundLoop, result: T) -> T:
    return result


def _one_by_one(loop: BackgroundLoop, source: _Source[T]) -> Generator[T, None, None]:
    return _each(loop, source, lambda item: (item,))


def _by_page(loop: BackgroundLoop, pages: pager.Iteration[T]) -> Iteration[T]:
    return Iteration(loop, pages, lambda page: (page,))


class _Pager(_Blocking[W_co]):
    checkpoint: Final = _makes(pager.Pager.checkpoint, _same)
    collect: Final = _makes(pager.Pager.collect, BackgroundLoop.wait)
    pages: Final = _makes(pager.Pager.pages, _by_page)
    raw_pages: Final = _makes(pager.Pager.raw_pages, _by_page)
    arrow_batches: Final = _makes(pager.Pager.arrow_batches, _one_by_one)
    to_arrow: Final = _makes(pager.Pager.to_arrow, BackgroundLoop.wait)
    to_pandas: Final = _makes(pager.Pager.to_pandas, BackgroundLoop.wait)
    to_polars: Final = _makes(pager.Pager.to_polars, BackgroundLoop.wait)

    @property
    def report(self) -> WalkReport:
        """The report of the latest iteration, updated while it runs."""
        return self._async.report

    def raw(self) -> Iteration[dict[str, Any]]:
        """Iterate over the service's own JSON objects. Cheaper, since nothing is converted."""
        return Iteration(self._loop, self._async.raw_pages(), lambda page: page.items)

    def __iter__(self) -> Iterator[Payment]:
        return iter(Iteration(self._loop, self._async.joined(), reader.JoinedPage.payments))


class Walk(_Pager[walk.Walk]):
    """The payments of a list, each exactly once."""

    first: Final = _makes(walk.Walk.first, BackgroundLoop.wait)
    count: Final = _makes(walk.Walk.count, BackgroundLoop.wait)


class PaymentStream(_Pager[stream.PaymentStream]):
    """The payments of several channels, each exactly once: as they arrive, or channel by channel."""

    @property
    def reports(self) -> dict[int | None, WalkReport]:
        """The latest report of each channel; the key is None if the whole store is one walk."""
        return self._async.reports


class Payments(_Blocking[payments.Payments]):
    """The store's payments."""

    list: Final = _makes(payments.Payments.list, Walk)
    stream: Final = _makes(payments.Payments.stream, PaymentStream)
    changes: Final = _makes(payments.Payments.changes, Changes)
    get: Final = _makes(payments.Payments.get, BackgroundLoop.wait)
    look_up: Final = _makes(payments.Payments.look_up, BackgroundLoop.wait)
    look_up_text: Final = _makes(payments.Payments.look_up_text, BackgroundLoop.wait)
    delete: Final = _makes(payments.Payments.delete, BackgroundLoop.wait)
    operations: Final = _makes(payments.Payments.operations, BackgroundLoop.wait)
    perform_operation: Final = _makes(payments.Payments.perform_operation, BackgroundLoop.wait)
    update_processing_status: Final = _makes(payments.Payments.update_processing_status, BackgroundLoop.wait)
    transactions: Final = _makes(payments.Payments.transactions, BackgroundLoop.wait)
    create_offline: Final = _makes(payments.Payments.create_offline, BackgroundLoop.wait)
    update_offline: Final = _makes(payments.Payments.update_offline, BackgroundLoop.wait)
    settle: Final = _makes(payments.Payments.settle, BackgroundLoop.wait)

    @property
    def recently_mixed_up(self) -> bool:
        """Whether this client received an answer to another request in the last five minutes."""

        async def read() -> bool:
            return self._async.recently_mixed_up

        return self._loop.wait(read())


class Channels(_Blocking[channels.Channels]):
    """The store's channels."""

    list: Final = _makes(channels.Channels.list, BackgroundLoop.wait)
    get: Final = _makes(channels.Channels.get, BackgroundLoop.wait)


class PaymentsClient(_Blocking[_client.PaymentsClient]):
    """The client of one store, with the parameters of `b2b_payments.PaymentsClient` except `session`."""

    def __init__(self, auth: StoreAuth | LegacyAuth, **settings: Unpack[_client.Settings]) -> None:
        super().__init__(BackgroundLoop(), _client.PaymentsClient(auth, **settings))
        self._owns = True
        self.payments: Payments = Payments(self._loop, self._async.payments)
        self.channels: Channels = Channels(self._loop, self._async.channels)

    @classmethod
    def from_env(cls, **settings: Unpack[_client.Settings]) -> Self:
        """Make a client from environment variables, as `b2b_payments.PaymentsClient.from_env` does."""
        return cls(_client.auth_from_env(), **_client.settings_from_env(settings))

    request: Final = _makes(_client.PaymentsClient.request, BackgroundLoop.wait)
    ping: Final = _makes(_client.PaymentsClient.ping, BackgroundLoop.wait)

    def with_options(self, **options: Unpack[_client.Options]) -> Self:
        """Return a client with another `timeout`, `deadline` or `retry`; it needs no closing."""
        other, inner = copy.copy(self), self._async.with_options(**options)
        vars(other).update(_async=inner, _owns=False)
        other.payments = Payments(self._loop, inner.payments)
        other.channels = Channels(self._loop, inner.channels)
        return other

    def open(self) -> Self:
        """Open the client, as `with` does: for start-up hooks. `close` closes it."""
        if self._owns:
            self._loop.start()
            atexit.register(self.close)
        try:
            self._loop.wait(self._async.open())
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Cancel all threads' calls, and close. May be called twice; called when Python exits."""
        if self._owns:
            atexit.unregister(self.close)
            self._loop.stop(self._async.aclose)

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()
