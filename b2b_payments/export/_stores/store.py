"""One of many stores: its name, its credential, its quota."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unicodedata import normalize

import attrs

from b2b_payments._auth import LegacyAuth, StoreAuth
from b2b_payments._client import BASE_URL, PaymentsClient, with_shared_from_env
from b2b_payments._errors import ConfigurationError
from b2b_payments._printable import frozen
from b2b_payments._quota import Quota
from b2b_payments._retry import RetryPolicy
from b2b_payments._secret import Secret
from b2b_payments._transport.transport import checked_base_url

if TYPE_CHECKING:
    from b2b_payments.events import Listener

_NAME = re.compile(r"\w(?:[\w .-]*[\w-])?")
_LONGEST_NAME = 40
_RESERVED = frozenset({"con", "prn", "aux", "nul"}) | {
    f"{port}{n}" for port in ("com", "lpt") for n in range(10)
}
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_UPPER_NAME = re.compile(r"[A-Z_][A-Z0-9_]*", re.ASCII)


@frozen(init=False)
class TokenFromEnv:
    """A token read from an environment variable of the process that uses it.

    It takes the place of a token, and is read when needed, so it can be sent to another machine.

    Raises ConfigurationError if `variable` is not a valid name.
    """

    variable: str = attrs.field(repr=False)

    def __init__(self, variable: str) -> None:
        if not _VARIABLE_NAME.fullmatch(variable):
            del variable
            raise ConfigurationError(
                "This is not the name of an environment variable: put the token into a variable, and use "
                "the variable's name, such as NORTH_TOKEN."
            )
        self.__attrs_init__(variable)

    async def __call__(self) -> str:
        """Return the token."""
        return self.read()

    def read(self) -> Secret:
        """Return the token. Raises ConfigurationError if the variable is empty or not set."""
        token = Secret(os.environ.get(self.variable, ""))
        if not token:
            # A name with lower-case letters may be a token given by mistake, so it is not shown.
            shown_name = self.variable if _UPPER_NAME.fullmatch(self.variable) else "that holds the token"
            state = "empty" if self.variable in os.environ else "not set"
            raise ConfigurationError(
                f"the environment variable {shown_name} is {state}: set it to the store's token."
            )
        return token


def _check_name(_store: Store, _field: attrs.Attribute[str], name: object) -> None:
    if not isinstance(name, str) or not is_file_name(name):
        raise ConfigurationError(
            "name cannot be the name of a file: use letters, digits, '-', '_', '.' and spaces, "
            f"{_LONGEST_NAME} at most, starting with a letter or digit, and no name that systems reserve, "
            "such as 'con'."
        )


def _normalized(name: str) -> str:
    value: object = name
    return normalize("NFC", name) if isinstance(value, str) else name


def _tuple(channel_ids: Iterable[int] | None) -> tuple[int, ...] | None:
    return None if channel_ids is None else tuple(channel_ids)


def _check_base_url(_store: Store, _field: attrs.Attribute[str], base_url: str) -> None:
    checked_base_url(base_url, allow_http=False)


@frozen
class Store:
    """One of many stores. Its `name` becomes the name of its file.

    ::

        Store("north", StoreAuth("abc123", TokenFromEnv("NORTH_TOKEN")), quota=Quota(shared=True))

    The token of `auth` may be a string, an async callable, or a `TokenFromEnv`, which is read only by the
    process that exports the store. `channel_ids` limits the export to these channels. The other arguments are
    those of `PaymentsClient`.

    Raises ConfigurationError for a name that cannot be a file's name, and for an invalid `base_url`.
    """

    name: str = attrs.field(validator=_check_name, converter=_normalized)
    auth: StoreAuth | LegacyAuth
    base_url: str = attrs.field(
        default=BASE_URL, repr=False, converter=Secret, validator=_check_base_url, kw_only=True
    )
    quota: Quota | None = attrs.field(default=Quota(), kw_only=True)
    channel_ids: tuple[int, ...] | None = attrs.field(default=None, converter=_tuple, kw_only=True)
    retry: RetryPolicy = attrs.field(default=RetryPolicy(), kw_only=True)

    @property
    def variable(self) -> str:
        """The environment variable that holds the token, or an empty string."""
        token = self.auth.token
        return token.variable if isinstance(token, TokenFromEnv) else ""

    @property
    def identity(self) -> str:
        """A text that identifies the store in the run file. Holds no secret."""
        return f"{self.base_url} {self.auth.name or self.variable}".strip()

    def in_shard(self, number: int, of: int) -> bool:
        """Whether the store belongs to shard `number` of `of` shards, counted from 1.

        Only its name decides that, not which other stores there are or their order.

        Raises ConfigurationError for a shard that does not exist.
        """
        if not 1 <= number <= of:
            raise ConfigurationError(f"Shard {number}/{of} does not exist: use 1/{of} to {of}/{of}.")
        digest = hashlib.sha256(self.name.encode()).digest()
        return int.from_bytes(digest[:8]) % of == number - 1

    def with_token(self) -> Store:
        """Return the store with a `TokenFromEnv` replaced by its token. Raises ConfigurationError."""
        token = self.auth.token
        if not isinstance(token, TokenFromEnv):
            return self
        with located(f"store {self.name!r}"):
            value = token.read()
            if isinstance(self.auth, LegacyAuth):
                return attrs.evolve(self, auth=LegacyAuth(value))
            return attrs.evolve(self, auth=StoreAuth(self.auth.store_hash, value))

    def client(self, on_event: Listener | None = None) -> PaymentsClient:
        """Make a client for the store. Raises ConfigurationError if the settings cannot work."""
        store = self.with_token()
        with located(f"store {self.name!r}"):
            return PaymentsClient(
                store.auth,
                base_url=store.base_url,
                quota=None if store.quota is None else with_shared_from_env(store.quota),
                retry=store.retry,
                on_event=on_event,
                trust_env=True,
            )


@contextmanager
def located(location: str) -> Iterator[None]:
    """Say in a ConfigurationError which store or file it is about."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{location}: {error.message.removesuffix('.')}.") from None


def is_file_name(name: str) -> bool:
    """Whether a file can have this name, plus an extension."""
    return (
        _NAME.fullmatch(normalize("NFC", name)) is not None
        and len(name) <= _LONGEST_NAME
        and name.partition(".")[0].rstrip().lower() not in _RESERVED
    )


def case_folded(text: str) -> str:
    """Return a form that is equal for two names that some file systems treat as the same."""
    return normalize("NFC", normalize("NFC", text).casefold())


def refuse_duplicates(stores: Iterable[Store]) -> None:
    """Raise ConfigurationError if two stores have the same name, or are the same store."""
    names: dict[str, Store] = {}
    stores_at: dict[tuple[str, object], Store] = {}
    for store in stores:
        name, place = case_folded(store.name), (store.base_url.rstrip("/").lower(), store.auth.store)
        if name in names:
            raise ConfigurationError(
                f"two stores are called {names[name].name!r} and {store.name!r}, which is one file on some "
                "systems: give each its own name."
            )
        if place in stores_at:
            credential = "store_hash" if isinstance(store.auth, StoreAuth) else "token"
            raise ConfigurationError(
                f"{stores_at[place].name!r} and {store.name!r} have the same {credential}: name each "
                "store once, since both would do the same work and use the same quota."
            )
        names[name] = stores_at[place] = store
