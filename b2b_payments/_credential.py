"""The credential in force: given once, or had from a provider and renewed when the service refuses it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import anyio

from b2b_payments._auth import LegacyAuth, StoreAuth, TokenProvider, secret
from b2b_payments._errors import ConfigurationError
from b2b_payments._secret import Secret

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
            "the service has answered nothing else yet, and a wrong store_hash (B2B_PAYMENTS_STORE_HASH) may "
            "be answered so, too"
        )

    def headers(self) -> Mapping[str, str]:
        """Give the headers that carry the token in force; `ready` sees to it that there is one."""
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
