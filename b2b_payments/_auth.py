"""Credentials: the two kinds that the service takes, and how one is given out, checked and renewed."""

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
"""Gives a token, new or renewed. It is awaited, and bounded by the client's timeout."""

_STORE_HASH = re.compile(r"[A-Za-z0-9_-]{1,24}")


def secret(name: str, value: object) -> Secret:
    """Check a credential, without ever showing it. Raises ConfigurationError."""
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
        return f"{name} starts or ends with white space (a line break from a file, perhaps); strip it."
    if not (value.isascii() and value.isprintable()) or " " in value:
        return f"{name} holds a space, a control character or a character outside ASCII; copy it again."
    return None


def _problem_with_hash(value: object) -> str | None:
    if isinstance(value, str) and _STORE_HASH.fullmatch(value):
        return None
    # The value is not shown: a token given in the wrong place would be. Tokens are longer than hashes.
    return (
        "store_hash is not a store hash: expected letters and digits, such as 'abc123' "
        "(the part after 'store-' in the store's address)."
    )


def _kept(token: str | TokenProvider) -> Secret | TokenProvider:
    return Secret(token) if isinstance(token, str) else token


@frozen(init=False)
class StoreAuth:
    """The current way [doc]: a store-level API account's token and the store's hash.

    `access_token` may be an async callable without arguments that gives the token: it is asked before the
    first request, and again when the service answers 401.
    """

    store_hash: str
    access_token: str | TokenProvider = attrs.field(repr=False)

    def __init__(self, store_hash: str, access_token: str | TokenProvider) -> None:
        problem = _problem_with_hash(store_hash)
        if problem is None and not callable(access_token):
            problem = _problem_with_token("access_token", access_token)
        if problem is not None:
            # A traceback's local variables would show what was given, perhaps in the wrong place.
            del store_hash, access_token
            raise ConfigurationError(problem)
        self.__attrs_init__(store_hash, _kept(access_token))

    @property
    def store(self) -> Hashable:
        """What tells this store's quota from another's."""
        return self.store_hash

    @property
    def name(self) -> str:
        """The store's name for people and files: nothing secret."""
        return self.store_hash

    @property
    def token(self) -> str | TokenProvider:
        """The token, or what gives it."""
        return self.access_token

    def headers(self, token: str) -> Mapping[str, str]:
        """Return the request headers that carry the credential."""
        return {"X-Auth-Token": token, "X-Store-Hash": self.store_hash}


@frozen(init=False)
class LegacyAuth:
    """The older way [doc]: `authToken` alone. Deprecated by the vendor on 2025-09-30, and still working.

    `auth_token` may be an async callable, as in StoreAuth.
    """

    auth_token: str | TokenProvider = attrs.field(repr=False)

    def __init__(self, auth_token: str | TokenProvider) -> None:
        problem = None if callable(auth_token) else _problem_with_token("auth_token", auth_token)
        if problem is not None:
            del auth_token
            raise ConfigurationError(problem)
        self.__attrs_init__(_kept(auth_token))

    @property
    def store(self) -> Hashable:
        """What tells this store's quota from another's: no hash is known, so the token itself does."""
        return self.auth_token

    @property
    def name(self) -> str:
        """The store's name for people and files: the token alone does not tell it."""
        return ""

    @property
    def token(self) -> str | TokenProvider:
        """The token, or what gives it."""
        return self.auth_token

    def headers(self, token: str) -> Mapping[str, str]:
        """Return the request headers that carry the credential."""
        # Never together with X-Store-Hash: the results are undefined [doc].
        return {"authToken": token}


_SECONDS_BETWEEN = 10.0
"""Between two renewals: a new token that is refused as well must not become a storm."""


class Credential:
    """Gives the headers of each request. Calls that want a token at once ask the provider once."""

    def __init__(self, auth: StoreAuth | LegacyAuth) -> None:
        self._auth = auth
        self._token: Secret | None = auth.token if isinstance(auth.token, Secret) else None
        self._provider: TokenProvider | None = auth.token if callable(auth.token) else None
        self._asking = anyio.Lock()
        self._times_asked = 0
        self._renewed_at = -math.inf
        self._problem = ""
        self._taken = False

    def taken(self) -> None:
        """Note that the service has answered to this credential."""
        self._taken = True

    @property
    def suspicion(self) -> str:
        """What may be wrong with it where the service only ever answered 500; empty where that cannot be."""
        if self._taken or isinstance(self._auth, LegacyAuth):
            return ""
        return (
            "the service has answered nothing else yet, and a wrong store hash gets this answer, too: check "
            "store_hash (B2B_PAYMENTS_STORE_HASH)"
        )

    def headers(self) -> Mapping[str, str]:
        """Return the headers that carry the token in force; `ready` sees to it that there is one."""
        return self._auth.headers(self._token or "")

    async def ready(self, timeout: float) -> None:
        """Have a token: asks the provider where none was given yet. Raises ConfigurationError if it fails."""
        if self._token is not None or self._provider is None:
            return
        before = self._times_asked
        async with self._asking:
            if self._times_asked == before:
                await self._ask(self._provider, timeout)
        self._raise_problem()

    async def renew(self, refused: Mapping[str, str], timeout: float) -> bool:
        """Have a new token after a 401 to these headers. True where there is another to try.

        Raises ConfigurationError if the provider fails.
        """
        if self._provider is None:
            return False
        async with self._asking:
            # Another call may have renewed it while this one was under way.
            if self.headers() == refused and anyio.current_time() - self._renewed_at >= _SECONDS_BETWEEN:
                await self._ask(self._provider, timeout)
                # Only now: a renewal that was cancelled leaves the next call free to ask.
                self._renewed_at = anyio.current_time()
        self._raise_problem()
        return self.headers() != refused

    async def _ask(self, provider: TokenProvider, timeout: float) -> None:
        try:
            with anyio.fail_after(timeout):
                given = await provider()
            self._token, self._problem = secret("The token provider's token", given), ""
        except Exception as error:  # noqa: BLE001 - whatever the caller's code raises
            # Neither chained nor quoted: a provider's error may hold a credential.
            self._problem = f"The token provider failed with {type(error).__name__}."
            if isinstance(error, ConfigurationError):
                self._problem = error.message
        self._times_asked += 1

    def _raise_problem(self) -> None:
        if self._problem:
            raise ConfigurationError(
                f"{self._problem} See to the async callable that was given as the token."
            )
