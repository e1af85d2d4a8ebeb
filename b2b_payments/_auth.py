"""The service's two ways to say who is calling, and the check of what the caller gives."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Hashable, Mapping

import attrs

from b2b_payments._errors import ConfigurationError
from b2b_payments._half_made import repr_when_incomplete
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


@repr_when_incomplete
@attrs.frozen(init=False)
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
        """Give the request headers that carry the credential."""
        return {"X-Auth-Token": token, "X-Store-Hash": self.store_hash}


@repr_when_incomplete
@attrs.frozen(init=False)
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
        """Give the request headers that carry the credential."""
        # Never together with X-Store-Hash: the results are undefined [doc].
        return {"authToken": token}
