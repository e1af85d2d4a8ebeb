"""The current token: provided once, renewed once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from b2b_payments import ConfigurationError, LegacyAuth, StoreAuth
from b2b_payments._auth import Credential
from tests.support.virtual_time import run


class Provider:
    """Returns `token-1`, `token-2`, …; or runs `instead`."""

    def __init__(self, instead: Callable[[], Awaitable[str]] | None = None) -> None:
        self.asked = 0
        self.instead = instead

    async def __call__(self) -> str:
        """Return the next token."""
        self.asked += 1
        await anyio.sleep(1)
        return f"token-{self.asked}" if self.instead is None else await self.instead()


async def together(number: int, call: Callable[[], Awaitable[object]]) -> list[object]:
    """Make `number` concurrent calls, and return what each returned or raised."""
    results: list[object] = []

    async def one() -> None:
        try:
            results.append(await call())
        except ConfigurationError as error:
            results.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(number):
            group.start_soon(one)
    return results


def test_fixed_token_needs_no_provider() -> None:
    """A fixed token is available at once, and cannot be renewed."""

    async def main() -> None:
        credential = Credential(LegacyAuth("token-0"))
        await credential.ready(0.0)
        assert credential.headers() == {"authToken": "token-0"}
        assert not await credential.renew(credential.headers(), 1.0)

    run(main())


def test_concurrent_calls_get_the_first_token_once() -> None:
    """Sixteen concurrent calls call the provider once."""

    async def main() -> None:
        provider = Provider()
        credential = Credential(StoreAuth("abc123", provider))
        await together(16, lambda: credential.ready(5.0))
        assert provider.asked == 1
        assert credential.headers() == {"X-Auth-Token": "token-1", "X-Store-Hash": "abc123"}

    run(main())


def test_concurrent_refusals_renew_once() -> None:
    """Sixteen calls refused with one token call the provider once, and all may try again."""

    async def main() -> None:
        provider = Provider()
        credential = Credential(LegacyAuth(provider))
        await credential.ready(5.0)
        refused = credential.headers()
        assert await together(16, lambda: credential.renew(refused, 5.0)) == [True] * 16
        assert provider.asked == 2

    run(main())


def test_late_refusal_of_an_old_token_calls_no_provider() -> None:
    """A call refused with a token that was renewed meanwhile tries the new one."""

    async def main() -> None:
        provider = Provider()
        credential = Credential(LegacyAuth(provider))
        await credential.ready(5.0)
        refused = credential.headers()
        assert await credential.renew(refused, 5.0)
        assert await credential.renew(refused, 5.0)
        assert provider.asked == 2

    run(main())


def test_refused_new_token_causes_no_storm() -> None:
    """After a renewal, the provider is not called for ten seconds."""

    async def main() -> None:
        provider = Provider()
        credential = Credential(LegacyAuth(provider))
        await credential.ready(5.0)
        assert await credential.renew(credential.headers(), 5.0)
        for _ in range(100):
            assert not await credential.renew(credential.headers(), 5.0)
        assert provider.asked == 2
        await anyio.sleep(10.0)
        assert await credential.renew(credential.headers(), 5.0)
        assert provider.asked == 3

    run(main())


def test_same_token_is_no_renewal() -> None:
    """If the provider returns the refused token again, there is nothing to try."""

    async def same() -> str:
        return "token-1"

    async def main() -> None:
        credential = Credential(LegacyAuth(same))
        await credential.ready(5.0)
        assert not await credential.renew(credential.headers(), 5.0)

    run(main())


async def fail() -> str:
    """Fail with a credential in the error."""
    raise RuntimeError("planted-credential")


async def hang() -> str:
    """Never answer."""
    await anyio.sleep_forever()
    raise AssertionError


async def return_rubbish() -> str:
    """Return a token with a line break."""
    return "planted-credential\n"


@pytest.mark.parametrize(
    ("instead", "says"),
    [
        (fail, "The token provider failed with RuntimeError. Check the"),
        (hang, "The token provider failed with TimeoutError. Check the"),
        (return_rubbish, "The token provider's token starts or ends with white space"),
    ],
)
def test_failing_provider_is_one_sentence(instead: Callable[[], Awaitable[str]], says: str) -> None:
    """A provider that fails, hangs or returns rubbish is reported to all waiters, without its words."""

    async def main() -> None:
        provider = Provider(instead)
        credential = Credential(LegacyAuth(provider))
        results = await together(16, lambda: credential.ready(5.0))
        assert provider.asked == 1
        for error in results:
            assert isinstance(error, ConfigurationError)
            assert str(error).startswith(says)
            assert "planted" not in str(error)
            assert error.__cause__ is error.__context__ is None

    run(main())


def test_failed_renewal_is_not_repeated() -> None:
    """Calls refused after a failed renewal raise its error, and the provider is not called again."""

    async def main() -> None:
        provider = Provider()
        credential = Credential(LegacyAuth(provider))
        await credential.ready(5.0)
        provider.instead = fail
        refused = credential.headers()
        results = await together(8, lambda: credential.renew(refused, 5.0))
        assert all(isinstance(one, ConfigurationError) for one in results)
        assert provider.asked == 2

    run(main())


def test_provider_may_recover() -> None:
    """The next call after a failure calls the provider again."""

    async def main() -> None:
        provider = Provider(fail)
        credential = Credential(LegacyAuth(provider))
        with pytest.raises(ConfigurationError):
            await credential.ready(5.0)
        provider.instead = None
        await credential.ready(5.0)
        assert credential.headers() == {"authToken": "token-2"}

    run(main())


def test_cancelled_call_leaves_the_provider_to_the_next() -> None:
    """If the call that runs the provider is cancelled, the next in line calls it."""

    async def main() -> None:
        provider = Provider()
        credential = Credential(LegacyAuth(provider))
        async with anyio.create_task_group() as group:
            first = anyio.CancelScope()

            async def cancelled() -> None:
                with first:
                    await credential.ready(5.0)

            group.start_soon(cancelled)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(credential.ready, 5.0)
            await anyio.wait_all_tasks_blocked()
            first.cancel()
        assert credential.headers() == {"authToken": "token-2"}

    run(main())
