"""Tokens that expire while a client works, and the provider that renews them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from b2b_payments import AuthenticationError, ConfigurationError, LegacyAuth, StoreAuth
from b2b_payments.sandbox import Sandbox
from tests.support.clients import client_of


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Yield a sandbox of 600 payments."""
    async with Sandbox(600) as one:
        yield one


class Provider:
    """Returns the currently valid token, and counts how often it was called."""

    def __init__(self, sandbox: Sandbox, *, legacy: bool = False) -> None:
        self._sandbox = sandbox
        self._legacy = legacy
        self.asked = 0

    async def __call__(self) -> str:
        """Return the token after a moment."""
        self.asked += 1
        await anyio.sleep(0.001)
        token = self._sandbox.legacy_auth.auth_token if self._legacy else self._sandbox.auth.access_token
        assert isinstance(token, str)
        return token


@pytest.mark.parametrize("legacy", [False, True])
async def test_expired_token_is_renewed_once(sandbox: Sandbox, legacy: bool) -> None:
    """Sixteen requests refused at once call the provider once, and all succeed."""
    provider = Provider(sandbox, legacy=legacy)
    auth = LegacyAuth(provider) if legacy else StoreAuth(sandbox.auth.store_hash, provider)
    async with client_of(sandbox, auth=auth) as client:
        for turn in range(2):
            ids: list[int] = []

            async def get(payment_id: int, ids: list[int] = ids) -> None:
                ids.append((await client.payments.get(payment_id)).id)

            async with anyio.create_task_group() as group:
                for payment_id in range(1, 17):
                    group.start_soon(get, payment_id)
            assert sorted(ids) == list(range(1, 17))
            assert provider.asked == turn + 1
            sandbox.rotate_token()
    assert sandbox.request_count <= 16 + 2 * 16


async def test_walk_survives_a_renewal(sandbox: Sandbox) -> None:
    """A token that expires in the middle of a walk loses no payment."""
    provider = Provider(sandbox)
    async with client_of(sandbox, auth=StoreAuth(sandbox.auth.store_hash, provider)) as client:
        ids = []
        async for payment in client.payments.list(page_size=20):
            ids.append(payment.id)
            if len(ids) == 100:
                sandbox.rotate_token()
    assert ids == sandbox.store.ids()
    assert provider.asked == 2


async def test_write_survives_a_renewal(sandbox: Sandbox) -> None:
    """A write that was refused for its token is carried out once with the new one."""
    provider = Provider(sandbox)
    async with client_of(sandbox, auth=StoreAuth(sandbox.auth.store_hash, provider)) as client:
        await client.payments.get(1)
        sandbox.rotate_token()
        await client.payments.delete(7)
    assert [seen.status for seen in sandbox.requests] == [200, 401, 200]


async def test_provider_without_a_valid_token_causes_no_storm(sandbox: Sandbox) -> None:
    """If the new token is refused, too, each call ends in a 401, and the provider is not called again."""
    asked = 0

    async def stale() -> str:
        nonlocal asked
        asked += 1
        return f"stale-{asked}"

    async with client_of(sandbox, auth=StoreAuth(sandbox.auth.store_hash, stale)) as client:
        for _ in range(10):
            with pytest.raises(AuthenticationError):
                await client.payments.get(1)
    assert asked == 2
    assert sandbox.request_count == 11


async def test_without_a_token_nothing_is_sent(sandbox: Sandbox) -> None:
    """If the provider fails, nothing is sent, and its own words are not shown."""

    async def fail() -> str:
        raise RuntimeError("planted-credential")

    async with client_of(sandbox, auth=LegacyAuth(fail)) as client:
        with pytest.raises(ConfigurationError, match="provider failed with RuntimeError") as caught:
            await client.payments.get(1)
    assert "planted" not in str(caught.value)
    assert sandbox.request_count == 0


async def test_failed_renewal_is_reported(sandbox: Sandbox) -> None:
    """If the provider fails when the token has expired, its error is raised instead of the 401."""
    tokens = [sandbox.auth.access_token]

    async def fail_later() -> str:
        token = tokens.pop()
        assert isinstance(token, str)
        return token

    async with client_of(sandbox, auth=StoreAuth(sandbox.auth.store_hash, fail_later)) as client:
        await client.payments.get(1)
        sandbox.rotate_token()
        with pytest.raises(ConfigurationError, match="provider failed with IndexError"):
            await client.payments.get(1)


async def test_hanging_provider_times_out(sandbox: Sandbox) -> None:
    """A provider that does not answer has as long as a request, and no longer."""

    async def hang() -> str:
        await anyio.sleep_forever()
        raise AssertionError

    async with client_of(sandbox, auth=LegacyAuth(hang), timeout=0.05) as client:
        with pytest.raises(ConfigurationError, match="provider failed with TimeoutError"):
            await client.payments.get(1)
