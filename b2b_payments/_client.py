"""`PaymentsClient`, the entry point of the library."""

from __future__ import annotations

import copy
import inspect
import math
import os
import warnings
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

import aiohttp
import attrs

from b2b_payments._arguments import check
from b2b_payments._auth import Credential, LegacyAuth, StoreAuth
from b2b_payments._call import Caller
from b2b_payments._errors import ConfigurationError, shown
from b2b_payments._printable import repr_when_incomplete, unset_field
from b2b_payments._protocol import request as requests
from b2b_payments._protocol.response import Response
from b2b_payments._quota import Priority, Quota, StoreQuota
from b2b_payments._resources.channels import Channels
from b2b_payments._resources.payments import Payments
from b2b_payments._resources.writes import Writes
from b2b_payments._retry import RetryPolicy
from b2b_payments._secret import Secret
from b2b_payments._tasks import Tasks
from b2b_payments._transport import Transport
from b2b_payments._walk.service_limits import ServiceLimits
from b2b_payments._walk.walk import Walker
from b2b_payments.events import Events, Listener

BASE_URL = "https://api-b2b.bigcommerce.com/api/v3/io"
_DEFAULT_QUOTA = Quota()
_DEFAULT_RETRY = RetryPolicy()
_NO_RETRY = RetryPolicy(attempts=1)


class Settings(TypedDict, total=False):
    """The parameters of `PaymentsClient` other than the credential."""

    base_url: str
    quota: Quota | None
    retry: RetryPolicy
    timeout: float
    deadline: float | None
    session: aiohttp.ClientSession | None
    on_event: Listener | None
    allow_http: bool
    proxy: str | None
    trust_env: bool


class Options(TypedDict, total=False):
    """The parameters of `PaymentsClient.with_options`."""

    timeout: float
    deadline: float | None
    retry: RetryPolicy


@repr_when_incomplete
class PaymentsClient:
    """The client of one store.

    ::

        async with PaymentsClient(StoreAuth(store_hash="abc123", access_token="…")) as client:
            async for payment in client.payments.list():
                ...

    `timeout` limits one attempt, body included, and `deadline` one whole call or walk, waits included (None:
    no limit); both are in seconds. `retry` sets how often a failed attempt is repeated. `quota` limits all
    clients of the store in this process together, and those in other processes if `Quota.shared` is set; None
    turns it off. `session` is an open aiohttp.ClientSession, left open on exit; without one, the client opens
    its own. `on_event` gets the events in `b2b_payments.events`. `allow_http` permits http to other machines.

    `proxy` is the URL of an http or https proxy, with user name and password if it needs them; it is used
    with a lent session, too. `trust_env` uses the environment's proxy instead: HTTPS_PROXY (HTTP_PROXY for
    an http URL), except for hosts in NO_PROXY and this machine.

    Raises ConfigurationError for invalid arguments, before anything is sent, and for every use in an event
    loop, thread or process (such as a forked child) other than the one in which the client was opened.
    """

    _open = False  # for `__del__` after the constructor raised

    def __init__(
        self,
        auth: StoreAuth | LegacyAuth,
        *,
        base_url: str = BASE_URL,
        quota: Quota | None = _DEFAULT_QUOTA,
        retry: RetryPolicy = _DEFAULT_RETRY,
        timeout: float = 30.0,
        deadline: float | None = None,
        session: aiohttp.ClientSession | None = None,
        on_event: Listener | None = None,
        allow_http: bool = False,
        proxy: str | None = None,
        trust_env: bool = False,
    ) -> None:
        # Hide them in a traceback's local variables: either may contain a credential.
        base_url = Secret(base_url)
        proxy = Secret(proxy) if isinstance(proxy, str) else proxy
        unchecked: object = auth
        if not isinstance(unchecked, StoreAuth | LegacyAuth):
            kind = type(unchecked).__name__
            del auth, unchecked
            raise ConfigurationError(f"auth must be a StoreAuth or a LegacyAuth, not {kind}.")
        if (unset := unset_field(auth)) is not None:
            raise ConfigurationError(f"auth is incomplete: its {unset} is not set.")
        _check_quota(quota)
        check("on_event", on_event, Callable | None, "a plain function of one argument, the event")
        check("trust_env", trust_env, bool, "True to go through the environment's proxy, or False")
        if inspect.iscoroutinefunction(on_event):
            raise ConfigurationError("on_event is an async function; give a plain one that does not await.")
        self._auth = auth
        self._tasks = Tasks()
        self._transport = Transport(
            base_url,
            session=session,
            allow_http=allow_http,
            proxy=proxy,
            trust_env=trust_env,
            store=auth.name,
        )
        caller = Caller(
            transport=self._transport,
            credential=Credential(auth),
            quota=StoreQuota((self._transport.base_url, auth.store), quota),
            events=Events(on_event),
            **_options(timeout=timeout, deadline=deadline, retry=retry),
        )
        self._assemble(caller, ServiceLimits(), {})

    def _assemble(
        self,
        caller: Caller,
        learned: ServiceLimits,
        known: dict[int, None],
        parent: PaymentsClient | None = None,
    ) -> None:
        store = f"{self._transport.base_url} {self._auth.name}".strip()
        self._caller = caller
        self._walker = Walker(attrs.evolve(caller, priority=Priority.PAGE), learned, self._tasks, store)
        self._writes = Writes(caller, store, known)
        self._parent = parent  # the client that owns the session and tasks, if it is another one
        self._open = False
        self.payments: Payments = Payments(self._walker, self._writes)
        self.channels: Channels = Channels(caller)

    @classmethod
    def from_env(cls, **settings: Unpack[Settings]) -> Self:
        """Make a client from environment variables; `settings` are the constructor's other parameters.

        Reads B2B_PAYMENTS_STORE_HASH and B2B_PAYMENTS_ACCESS_TOKEN, or B2B_PAYMENTS_AUTH_TOKEN, and
        B2B_PAYMENTS_BASE_URL. B2B_PAYMENTS_QUOTA_SHARED sets `Quota.shared` if that is None: ``1``, an
        absolute path or a URL. Raises a ConfigurationError that names missing variables.
        """
        return cls(auth_from_env(), **settings_from_env(settings))

    def with_options(self, **options: Unpack[Options]) -> Self:
        """Return a client with another `timeout`, `deadline` or `retry` that shares all else with this one.

        It uses this client's session, quota and credential, works while this one is open, and needs no
        closing. Raises ConfigurationError for an invalid value.
        """
        current = {name: getattr(self._caller, name) for name in Options.__annotations__}
        caller = attrs.evolve(self._caller, **_options(**{**current, **options}))
        other = copy.copy(self)
        learned, known, parent = self._walker.learned, self._writes.known, self._parent or self
        PaymentsClient._assemble(other, caller, learned, known, parent)
        return other

    async def request(
        self, method: str, path: str, *, params: Mapping[str, Any] | None = None, json: Any = None
    ) -> Response:
        """Send a request to any endpoint of the service, and return its answer.

        `path` is relative to the base URL, such as ``/ip/payments``; `params` are strings and integers, or
        lists of them for repeated names; `json` is the body. Quota, credential, deadline and retries work as
        for all calls: GET, PUT and DELETE are retried, POST and PATCH only if they certainly changed nothing.
        Raises ConfigurationError for a request that cannot be sent, APIError, TransportError,
        ResponseDecodeError, and OutcomeUnknownError if a write's outcome is unknown.
        """
        return await self._writes.answer_to(requests.any_endpoint(method, path, params, json))

    async def ping(self) -> None:
        """Request one payment, without retries: for health checks.

        Waits for the quota as every call does. Raises AuthenticationError, another APIError, TransportError
        or ResponseDecodeError.
        """
        await self.with_options(retry=_NO_RETRY).request("GET", "/ip/payments", params={"limit": 1})

    async def open(self) -> Self:
        """Open the client, as `async with` does: for start-up hooks. `aclose` closes it.

        Raises ConfigurationError if it is open already, or was closed.
        """
        if self._parent is not None:
            self._transport.require_open()
            return self
        if self._open:
            raise ConfigurationError("The client is open already; use one `async with` at a time.")
        if self._tasks.stopped:
            raise ConfigurationError("The client was closed; make a new one.")
        self._tasks.require_home()
        await self._transport.open()
        try:
            await self._tasks.start()
            self._caller.quota.open()
        except BaseException:
            await self.aclose()
            raise
        self._open = True
        return self

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel calls in progress, and close the session unless it was lent. May be called twice.

        On a client made by `with_options`, this does nothing.
        Raises ConfigurationError in another event loop, thread or process than the one it was opened in.
        """
        if self._parent is not None:
            return  # the session and tasks belong to the parent
        self._tasks.require_home()
        self._open = False
        try:
            await self._tasks.stop()
        finally:
            self._caller.quota.close()
            await self._transport.aclose()

    def __del__(self) -> None:
        if self._open:
            warnings.warn(
                f"{self!r} was not closed; use `async with`.", ResourceWarning, source=self, stacklevel=2
            )

    def __repr__(self) -> str:
        return f"PaymentsClient({self._auth!r}, base_url={self._transport.base_url!r})"


def auth_from_env() -> StoreAuth | LegacyAuth:
    """Read the credential from environment variables. Raises a ConfigurationError that names missing ones."""
    store_hash, access_token, auth_token = map(_from_env, ("STORE_HASH", "ACCESS_TOKEN", "AUTH_TOKEN"))
    if access_token and auth_token:
        raise ConfigurationError("Set B2B_PAYMENTS_ACCESS_TOKEN or B2B_PAYMENTS_AUTH_TOKEN, not both.")
    if auth_token:
        return LegacyAuth(auth_token)
    if store_hash and access_token:
        return StoreAuth(str(store_hash), access_token)
    missing = "B2B_PAYMENTS_ACCESS_TOKEN" if store_hash else "B2B_PAYMENTS_STORE_HASH"
    if not store_hash and not access_token:
        missing = "B2B_PAYMENTS_STORE_HASH and B2B_PAYMENTS_ACCESS_TOKEN"
    raise ConfigurationError(
        f"No credential: set {missing} (or B2B_PAYMENTS_AUTH_TOKEN alone) in the environment."
    )


def settings_from_env(settings: Settings) -> Settings:
    """Complete a client's settings from environment variables. Raises ConfigurationError."""
    quota = settings.get("quota", _DEFAULT_QUOTA)
    _check_quota(quota)
    env: Settings = {"quota": None if quota is None else with_shared_from_env(quota)}
    if base_url := _from_env("BASE_URL"):
        env["base_url"] = base_url
    return {**env, **settings, "quota": env["quota"]}


def with_shared_from_env(quota: Quota) -> Quota:
    """Return the quota, with `shared` set from B2B_PAYMENTS_QUOTA_SHARED if it is None."""
    text = str(_from_env("QUOTA_SHARED"))
    word = text.lower()
    if quota.shared is not None or word in {"", "0", "false", "no", "off"}:
        return quota
    try:
        if word in {"1", "true", "yes", "on"}:
            return attrs.evolve(quota, shared=True)
        if "://" in text or os.path.isabs(text):  # any other path would be another one in each folder
            return attrs.evolve(quota, shared=text)
    except ConfigurationError:
        pass
    # Without the value, which may hold a password.
    raise ConfigurationError(
        "B2B_PAYMENTS_QUOTA_SHARED must be 1, the absolute path of a file or folder, or the URL of a Redis "
        "server, such as redis://host:6379/0."
    )


def _from_env(name: str) -> Secret:
    return Secret(os.environ.get(f"B2B_PAYMENTS_{name}", ""))


def _options(*, timeout: object, deadline: object, retry: object) -> dict[str, Any]:
    check("retry", retry, RetryPolicy, "a RetryPolicy; RetryPolicy(attempts=1) never retries")
    return {
        "timeout": _seconds("timeout", timeout),
        "deadline": None if deadline is None else _seconds("deadline", deadline),
        "retry": retry,
    }


def _check_quota(quota: object) -> None:
    check("quota", quota, Quota | None, "a Quota, or None to turn it off")


def _seconds(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigurationError(f"{name} must be seconds, more than 0, not {shown(value)}.")
    return float(value)
