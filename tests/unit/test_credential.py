"""The credential in force: asked for once, renewed once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from b2b_payments import ConfigurationError, LegacyAuth, StoreAuth
from b2b_payments._auth import Credential
from tests.support.virtual_time import run


class Provider:
    """Gives `token-1`, `token-2`, …; or does what `instead` does."""

    def __init__(self, instead: Callable[[], Awaitable[str]] | None = None) -> None:
        self.asked = 0
        self.instead = instead

    async def __call__(self) -> str:
        """Return the next token."""
        self.asked += 1
        await anyio.sleep(1)
        return f"token-{self.asked}" if self.instead is None else await self.instead()


async def together(number: int, call: Callable[[], Awaitable[object]]) -> list[object]:
    """Make a call so many times at once, and give what each gave or raised."""
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


def test_a_given_token_needs_no_asking() -> None:
    """A token that was given is there at once, and cannot be renewed."""

    async def main() -> None:
        credential = Credential(LegacyAuth("token-0"))
        await credential.ready(0.0)
        assert credential.headers() == {"authToken": "token-0"}
        assert not await credential.renew(credential.headers(), 1.0)

    run(main())


def test_many_calls_ask_once_for_the_first_token() -> None:
    """Sixteen calls that start at once ask the provider once."""

    async def main() -> None:
        provider = Provider()
        credential = Credential(StoreAuth("abc123", provider))
        await together(16, lambda: credential.ready(5.0))
        assert provider.asked == 1
        assert credential.headers() == {"X-Auth-Token": "token-1", "X-Store-Hash": "abc123"}

    run(main())


def test_many_refusals_renew_once() -> None:
    """Sixteen calls refused with one token ask the provider once, and all may try again."""

    async def main() -> None:
        provider = Provider()
        credential = Credential(LegacyAuth(provider))
        await credential.ready(5.0)
        refused = credential.headers()
        assert await together(16, lambda: credential.renew(refused, 5.0)) == [True] * 16
        assert provider.asked == 2

    run(main())


def test_a_late_refusal_of_an_old_token_asks_nobody() -> None:
    """A call that was refused with a token renewed meanwhile tries the new one, without asking."""

    async def main() -> None:
        provider = Provider()
        credential = Credential(LegacyAuth(provider))
        await credential.ready(5.0)
        refused = credential.headers()
        assert await credential.renew(refused, 5.0)
        assert await credential.renew(refused, 5.0)
        assert provider.asked == 2

    run(main())


def test_a_new_token_that_is_refused_makes_no_storm() -> None:
    """After a renewal the provider is left alone for ten seconds, and then asked again."""

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


def test_the_same_token_again_is_no_renewal() -> None:
    """A provider that gives the refused token again leaves nothing to try."""

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


async def give_rubbish() -> str:
    """Return a token with a line break."""
    return "planted-credential\n"


@pytest.mark.parametrize(
    ("instead", "says"),
    [
        (fail, "The token provider failed with RuntimeError. Check the"),
        (hang, "The token provider failed with TimeoutError. Check the"),
        (give_rubbish, "The token provider's token starts or ends with white space"),
    ],
)
def test_a_failing_provider_is_one_sentence(instead: Callable[[], Awaitable[str]], says: str) -> None:
    """A provider that fails, hangs or gives rubbish is told of once to all who wait, without its words."""

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


def test_a_failed_renewal_is_told_and_not_repeated() -> None:
    """Calls refused after a failed renewal hear of the failure, and the provider is left alone."""

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


def test_a_provider_that_recovers_is_heard() -> None:
    """The next call after a failure asks again."""

    async def main() -> None:
        provider = Provider(fail)
        credential = Credential(LegacyAuth(provider))
        with pytest.raises(ConfigurationError):
            await credential.ready(5.0)
        provider.instead = None
        await credential.ready(5.0)
        assert credential.headers() == {"authToken": "token-2"}

    run(main())


def test_a_cancelled_asker_leaves_the_asking_to_the_next() -> None:
    """Where the call that asks is cancelled, the next in line asks."""

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
