"""The credential in force: given once, or had from a provider and renewed when the service refuses it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import anyio

from b2b_payments.auth import LegacyAuth, Secret, StoreAuth, TokenProvider, secret
from b2b_payments.errors import ConfigurationError

_SECONDS_BETWEEN = 10.0
"""A provider is not asked again sooner than this: a token that stays refused must not become a storm."""


class Credential:
    """Gives the headers of each request. Many calls that are refused at once renew the token once."""

    def __init__(self, auth: StoreAuth | LegacyAuth) -> None:
        self._auth = auth
        self._token: Secret | None = auth.token if isinstance(auth.token, Secret) else None
        self._provider: TokenProvider | None = auth.token if callable(auth.token) else None
        self._asking = anyio.Lock()
        self._asked_at = -math.inf

    async def headers(self, timeout: float) -> Mapping[str, str]:
        """Give the headers; asks the provider first where there is no token yet."""
        if self._token is None:
            async with self._asking:
                if self._token is None:
                    await self._ask(timeout)
        return self._auth.headers(self._token or "")

    async def renew(self, timeout: float) -> bool:
        """Have a new token after a 401. True where there is one to try: renewed by this call or another."""
        refused = self._token
        if self._provider is None:
            return False
        async with self._asking:
            if self._token == refused:
                if anyio.current_time() - self._asked_at < _SECONDS_BETWEEN:
                    return False
                await self._ask(timeout)
        return self._token != refused

    async def _ask(self, timeout: float) -> None:
        if self._provider is None:
            return
        self._asked_at = anyio.current_time()
        problem = ""
        try:
            with anyio.fail_after(timeout):
                self._token = secret("The token provider's token", await self._provider())
        except ConfigurationError:
            raise
        except Exception as error:
            problem = type(error).__name__
        if problem:
            # Not chained, and without its text: it may hold a credential.
            raise ConfigurationError(f"The token provider failed with {problem}; nothing was sent.")
