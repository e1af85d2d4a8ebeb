"""The service's two ways to say who is calling, and the check of what the caller gives."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any

import attrs

from b2b_payments.errors import ConfigurationError

TokenProvider = Callable[[], Awaitable[str]]
"""Gives a token, new or renewed. It is awaited, and bounded by the client's timeout."""

_STORE_HASH = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Secret(str):
    """A credential that shows itself to the wire and to nobody else: its `repr` is ``'***'``.

    A string, since aiohttp's headers take nothing else; so it stays hidden also where a debugger or an
    error reporter prints the local variables of a frame.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    def __reduce__(self) -> tuple[Any, ...]:
        return Secret, (str.__str__(self),)


def secret(name: str, value: object) -> Secret:
    """Check a credential, without ever showing it. Raises ConfigurationError."""
    problem = None
    if not isinstance(value, str):
        problem = f"is {type(value).__name__}, not a string"
    elif not value:
        problem = "is empty"
    elif value != value.strip():
        problem = "starts or ends with white space (a line break from a file, perhaps); strip it"
    elif not (value.isascii() and value.isprintable()) or " " in value:
        problem = "holds a space, a control character or a character outside ASCII; copy it again"
    if problem is not None:
        raise ConfigurationError(f"{name} {problem}.")
    return Secret(value)


def _access_token(value: str | TokenProvider) -> Secret | TokenProvider:
    return value if callable(value) else secret("access_token", value)


def _auth_token(value: str | TokenProvider) -> Secret | TokenProvider:
    return value if callable(value) else secret("auth_token", value)


def _store_hash(value: object) -> str:
    if not isinstance(value, str) or not _STORE_HASH.fullmatch(value):
        # The value is not shown: a token given in the wrong place would be.
        raise ConfigurationError(
            "store_hash is not a store hash: expected letters and digits, such as 'abc123' "
            "(the part after 'store-' in the store's address)."
        )
    return value


@attrs.frozen
class StoreAuth:
    """The current way [doc]: a store-level API account's token and the store's hash.

    `access_token` may be an async callable without arguments that gives the token: it is asked before the
    first request, and again when the service answers 401.
    """

    store_hash: str = attrs.field(converter=_store_hash)
    access_token: str | TokenProvider = attrs.field(converter=_access_token, repr=False)

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
        """Give the request headers that carry the credential."""
        return {"X-Auth-Token": token, "X-Store-Hash": self.store_hash}


@attrs.frozen
class LegacyAuth:
    """The older way [doc]: `authToken` alone. Deprecated by the vendor on 2025-09-30, and still working.

    `auth_token` may be an async callable, as in StoreAuth.
    """

    auth_token: str | TokenProvider = attrs.field(converter=_auth_token, repr=False)

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
        """Give the request headers that carry the credential."""
        # Never together with X-Store-Hash: the results are undefined [doc].
        return {"authToken": token}
