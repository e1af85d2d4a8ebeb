"""A store among many: its name, its credential, its quota."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING
from unicodedata import normalize

import attrs

from b2b_payments._auth import LegacyAuth, StoreAuth
from b2b_payments._client import BASE_URL, PaymentsClient, shared_by_env
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
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_CAPITALS = re.compile(r"[A-Z_][A-Z0-9_]*", re.ASCII)


@frozen(init=False)
class TokenFromEnv:
    """A token that is in an environment variable of the process that sends with it.

    It is given in place of a token, and read when it is needed; so it can be sent to another machine.

    Raises ConfigurationError for what is no variable's name.
    """

    variable: str = attrs.field(repr=False)

    def __init__(self, variable: str) -> None:
        if not _VARIABLE.fullmatch(variable):
            del variable
            raise ConfigurationError(
                "This is not the name of an environment variable: put the token into a variable, and give "
                "the variable's name, as in NORTH_TOKEN."
            )
        self.__attrs_init__(variable)

    async def __call__(self) -> str:
        """Return the token."""
        return self.read()

    def read(self) -> Secret:
        """Return the token. Raises ConfigurationError where the variable is empty or not set."""
        token = Secret(os.environ.get(self.variable, ""))
        if not token:
            # Tokens are written in small letters, names of variables hardly ever: a token here is not shown.
            named = self.variable if _CAPITALS.fullmatch(self.variable) else "that holds the token"
            state = "empty" if self.variable in os.environ else "not set"
            raise ConfigurationError(
                f"the environment variable {named} is {state}: set it to the store's token."
            )
        return token


def _name(_store: Store, _field: attrs.Attribute[str], name: object) -> None:
    if not isinstance(name, str) or not is_file_name(name):
        raise ConfigurationError(
            "name cannot be the name of a file: give letters, digits, '-', '_', '.' and spaces, "
            f"{_LONGEST_NAME} at most, with a letter or digit in front, and none that systems reserve, "
            "such as 'con'."
        )


def _composed(name: str) -> str:
    given: object = name
    return normalize("NFC", name) if isinstance(given, str) else name


def _tuple(channel_ids: Iterable[int] | None) -> tuple[int, ...] | None:
    return None if channel_ids is None else tuple(channel_ids)


def _base_url(_store: Store, _field: attrs.Attribute[str], base_url: str) -> None:
    checked_base_url(base_url, allow_http=False)


@frozen
class Store:
    """A store among many. Its `name` names its file.

    ::

        Store("north", StoreAuth("abc123", TokenFromEnv("NORTH_TOKEN")), quota=Quota(shared=True))

    The token of `auth` may be a text, an async callable, or a `TokenFromEnv`, which is read only where the
    store is exported. `channel_ids` leaves other channels out. The rest is as for a `PaymentsClient`.

    Raises ConfigurationError for a name that no file can have, and for an address that cannot be.
    """

    name: str = attrs.field(validator=_name, converter=_composed)
    auth: StoreAuth | LegacyAuth
    base_url: str = attrs.field(
        default=BASE_URL, repr=False, converter=Secret, validator=_base_url, kw_only=True
    )
    quota: Quota | None = attrs.field(default=Quota(), kw_only=True)
    channel_ids: tuple[int, ...] | None = attrs.field(default=None, converter=_tuple, kw_only=True)
    retry: RetryPolicy = attrs.field(default=RetryPolicy(), kw_only=True)

    @property
    def variable(self) -> str:
        """The environment variable that holds its token; empty where none does."""
        token = self.auth.token
        return token.variable if isinstance(token, TokenFromEnv) else ""

    @property
    def identity(self) -> str:
        """What tells it from others, for a note on the disk: nothing secret."""
        return f"{self.base_url} {self.auth.name or self.variable}".strip()

    def in_shard(self, number: int, of: int) -> bool:
        """Whether it belongs to this one of so many parts, counted from 1.

        That is by its name alone: which other stores there are, and in which order, changes nothing.

        Raises ConfigurationError for a part that cannot be.
        """
        if not 1 <= number <= of:
            raise ConfigurationError(f"Shard {number}/{of}: give one of 1/{of} to {of}/{of}.")
        digest = hashlib.sha256(self.name.encode()).digest()
        return int.from_bytes(digest[:8]) % of == number - 1

    def with_token(self) -> Store:
        """Return it with its token, read from the environment if need be. Raises ConfigurationError."""
        token = self.auth.token
        if not isinstance(token, TokenFromEnv):
            return self
        try:
            read = token.read()
            auth = (
                LegacyAuth(read)
                if isinstance(self.auth, LegacyAuth)
                else StoreAuth(self.auth.store_hash, read)
            )
        except ConfigurationError as error:
            raise ConfigurationError(f"store {self.name!r}: {error.message}") from None
        return attrs.evolve(self, auth=auth)

    def client(self, on_event: Listener | None = None) -> PaymentsClient:
        """Make a client. Raises ConfigurationError for what cannot work."""
        store = self.with_token()
        try:
            return PaymentsClient(
                store.auth,
                base_url=store.base_url,
                quota=None if store.quota is None else shared_by_env(store.quota),
                retry=store.retry,
                on_event=on_event,
                trust_env=True,
            )
        except ConfigurationError as error:
            raise ConfigurationError(f"store {self.name!r}: {error.message}") from None


def is_file_name(name: str) -> bool:
    """Whether files can have this name, with an ending."""
    return (
        _NAME.fullmatch(normalize("NFC", name)) is not None
        and len(name) <= _LONGEST_NAME
        and name.partition(".")[0].rstrip().lower() not in _RESERVED
    )


def folded(text: str) -> str:
    """Return what two names have in common that some file system takes for one."""
    return normalize("NFC", normalize("NFC", text).casefold())


def refuse_twice(stores: Iterable[Store]) -> None:
    """Raise ConfigurationError where two have one name, or are one store."""
    names: dict[str, Store] = {}
    reached: dict[tuple[str, object], Store] = {}
    for store in stores:
        name, place = folded(store.name), (store.base_url.rstrip("/").lower(), store.auth.store)
        if name in names:
            raise ConfigurationError(
                f"two stores are called {names[name].name!r} and {store.name!r}, which is one file on some "
                "systems: give each a name of its own."
            )
        if place in reached:
            what = "store_hash" if isinstance(store.auth, StoreAuth) else "token"
            raise ConfigurationError(
                f"{reached[place].name!r} and {store.name!r} have the same {what}: name each store once, "
                "since the two would do the same work and share one quota."
            )
        names[name] = reached[place] = store
