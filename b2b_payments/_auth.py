"""The two kinds of credentials that the service accepts, and how they are checked, used and renewed."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Hashable, Mapping

import anyio
import attrs

from b2b_payments._errors import ConfigurationError
from b2b_payments._printable import frozen
from b2b_payments._secret import Secret

TokenProvider = Callable[[], Awaitable[str]]
"""An async function that returns a token, initial or renewed, within the client's timeout."""

_STORE_HASH = re.compile(r"[A-Za-z0-9_-]{1,24}")


def check_token(name: str, value: object) -> Secret:
    """Check a token and hide it. Raises ConfigurationError, which never shows the token."""
    problem = _problem_with_token(name, value)
    if problem is not None or not isinstance(value, str):
        del value
        raise ConfigurationError(problem or "")
    return Secret(value)


def _problem_with_token(name: str, value: object) -> str | None:
    if not isinstance(value, str):
        return f"{name} is {type(value).__name__}, not a string."
    if not value:
        return f"{name} is empty."
    if value != value.strip():
        return f"{name} starts or ends with white space (maybe a line break from a file); strip it."
    if not (value.isascii() and value.isprintable()) or " " in value:
        return f"{name} contains a space, a control character or a non-ASCII character; copy it again."
    return None


def _problem_with_hash(value: object) -> str | None:
    if isinstance(value, str) and _STORE_HASH.fullmatch(value):
        return None
    # The value is not shown: it may be a token passed in the wrong place. Tokens are longer than hashes.
    return (
        "store_hash is not a store hash: expected letters and digits, such as 'abc123' "
        "(the part after 'store-' in the store's address)."
    )


def _hidden(token: str | TokenProvider) -> Secret | TokenProvider:
    return Secret(token) if isinstance(token, str) else token


@frozen(init=False)
class StoreAuth:
    """The current credential [doc]: a store-level API account's token, and the store hash.

    `access_token` may be an async callable without arguments that returns the token, called before the first
    request and after a 401 (at most every 10 seconds). Raises ConfigurationError, which shows neither value.
    """

    store_hash: str
    access_token: str | TokenProvider = attrs.field(repr=False)

    def __init__(self, store_hash: str, access_token: str | TokenProvider) -> None:
        problem = _problem_with_hash(store_hash)
        if problem is None and not callable(access_token):
            problem = _problem_with_token("access_token", access_token)
        if problem is not None:
            # A traceback's local variables must not show them: either may be a token.
            del store_hash, access_token
            raise ConfigurationError(problem)
        self.__attrs_init__(store_hash, _hidden(access_token))

    @property
    def store(self) -> Hashable:
        """The key of this store's quota."""
        return self.store_hash

    @property
    def name(self) -> str:
        """The store's name in messages and files; not secret."""
        return self.store_hash

    @property
    def token(self) -> str | TokenProvider:
        """The token, or its provider."""
        return self.access_token

    def headers(self, token: str) -> Mapping[str, str]:
        """Return the request headers that carry the credential."""
        return {"X-Auth-Token": token, "X-Store-Hash": self.store_hash}


@frozen(init=False)
class LegacyAuth:
    """The older credential [doc]: `authToken` alone. The vendor deprecated it on 2025-09-30; it still works.

    `auth_token` may be an async callable, as in StoreAuth. Raises ConfigurationError, which does not show it.
    """

    auth_token: str | TokenProvider = attrs.field(repr=False)

    def __init__(self, auth_token: str | TokenProvider) -> None:
        problem = None if callable(auth_token) else _problem_with_token("auth_token", auth_token)
        if problem is not None:
            del auth_token
            raise ConfigurationError(problem)
        self.__attrs_init__(_hidden(auth_token))

    @property
    def store(self) -> Hashable:
        """The key of this store's quota: the token, since the store hash is not known."""
        return self.auth_token

    @property
    def name(self) -> str:
        """Empty: the store's name is not known."""
        return ""

    @property
    def token(self) -> str | TokenProvider:
        """The token, or its provider."""
        return self.auth_token

    def headers(self, token: str) -> Mapping[str, str]:
        """Return the request headers that carry the credential."""
        # Never send it together with X-Store-Hash: the results are undefined [doc].
        return {"authToken": token}


_RENEWAL_INTERVAL = 10.0
"""The minimum seconds between renewals, so that a new token that is also refused causes no storm."""


class Credential:
    """Provides the headers of each request. Concurrent calls that need a token call its provider once."""

    def __init__(self, auth: StoreAuth | LegacyAuth) -> None:
        self._auth = auth
        self._token: Secret | None = auth.token if isinstance(auth.token, Secret) else None
        self._provider: TokenProvider | None = auth.token if callable(auth.token) else None
        self._lock = anyio.Lock()
        self._provider_calls = 0
        self._renewed_at = -math.inf
        self._problem = ""
        self._has_succeeded = False

    def mark_succeeded(self) -> None:
        """Record that a request with this credential has succeeded."""
        self._has_succeeded = True

    @property
    def hint(self) -> str:
        """What may be wrong with a store hash after a 500; empty once a request has succeeded."""
        if self._has_succeeded or isinstance(self._auth, LegacyAuth):
            return ""
        return (
            "no request has succeeded yet, and a wrong store hash causes this error, too: check store_hash "
            "(B2B_PAYMENTS_STORE_HASH)"
        )

    def headers(self) -> Mapping[str, str]:
        """Return the headers with the current token. Call `ready` first, so that there is one."""
        return self._auth.headers(self._token or "")

    async def ready(self, timeout: float) -> None:
        """Get the first token from the provider, if there is one. Raises ConfigurationError if that fails."""
        if self._token is not None or self._provider is None:
            return
        before = self._provider_calls
        async with self._lock:
            if self._provider_calls == before:
                await self._call_provider(self._provider, timeout)
        self._raise_problem()

    async def renew(self, refused: Mapping[str, str], timeout: float) -> bool:
        """Get a new token after a 401 for the `refused` headers. Returns whether there is another to try.

        Raises ConfigurationError if the provider fails.
        """
        if self._provider is None:
            return False
        async with self._lock:
            # Another call may have renewed the token while this one was in flight.
            if self.headers() == refused and anyio.current_time() - self._renewed_at >= _RENEWAL_INTERVAL:
                await self._call_provider(self._provider, timeout)
                # Set only now, so that a cancelled renewal does not keep the next call from trying.
                self._renewed_at = anyio.current_time()
        self._raise_problem()
        return self.headers() != refused

    async def _call_provider(self, provider: TokenProvider, timeout: float) -> None:
        try:
            with anyio.fail_after(timeout):
                token = await provider()
            self._token, self._problem = check_token("The token provider's token", token), ""
        except Exception as error:  # noqa: BLE001 - the caller's code may raise anything
            # Neither chained nor quoted: a provider's error may contain a credential.
            self._problem = f"The token provider failed with {type(error).__name__}."
            if isinstance(error, ConfigurationError):
                self._problem = error.message
        self._provider_calls += 1

    def _raise_problem(self) -> None:
        if self._problem:
            raise ConfigurationError(
                f"{self._problem} Check the async callable that was passed as the token."
            )
