"""Credentials are checked when they are passed, and never shown."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from b2b_payments import ConfigurationError, LegacyAuth, StoreAuth
from b2b_payments._auth import check_token
from b2b_payments._secret import Secret

TOKEN = "planted-credential"


async def provide() -> str:
    """Return a token, as a caller's provider does."""
    return TOKEN


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "is empty"),
        (f"{TOKEN}\n", "starts or ends with white space"),
        (f" {TOKEN}", "starts or ends with white space"),
        (f"{TOKEN}\r\nX-Evil: 1", "contains a space, a control character"),
        (f"{TOKEN} {TOKEN}", "contains a space"),
        (f"{TOKEN}\x00", "contains a space, a control character"),
        (f"{TOKEN}é", "or a non-ASCII character"),
        (None, "is NoneType, not a string"),
        (7, "is int, not a string"),
        (TOKEN.encode(), "is bytes, not a string"),
    ],
)
@pytest.mark.parametrize(
    ("name", "make"),
    [("access_token", lambda value: StoreAuth("abc123", value)), ("auth_token", LegacyAuth)],
)
def test_credential_is_checked_at_once(
    name: str, make: Callable[[Any], object], value: Any, problem: str
) -> None:
    """A credential that cannot be sent is refused at once, by name, without being shown."""
    with pytest.raises(ConfigurationError, match=f"^{name} .*{problem}") as caught:
        make(value)
    assert TOKEN not in f"{caught.value} {caught.value!r}"
    assert caught.value.__context__ is None


@pytest.mark.parametrize("value", ["", "a b", f"{TOKEN}!", "x" * 65, "store/1", None, 7, "ä", "abc\n"])
def test_store_hash_is_checked_at_once(value: Any) -> None:
    """An invalid store hash is refused without being shown: it may be a token in the wrong place."""
    with pytest.raises(ConfigurationError, match="store_hash is not a store hash: expected") as caught:
        StoreAuth(value, TOKEN)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    "auth", [StoreAuth("abc123", TOKEN), LegacyAuth(TOKEN), StoreAuth("abc123", provide)]
)
def test_no_repr_shows_a_credential(auth: StoreAuth | LegacyAuth) -> None:
    """Neither the auth object's repr nor its parts' show the credential."""
    parts = attrs.asdict(auth)
    assert TOKEN not in f"{auth!r} {auth} {parts!r} {list(parts.values())!r} {auth.headers(auth.token)!r}"  # type: ignore[arg-type]


def test_secret_is_a_string_with_hidden_repr() -> None:
    """A secret equals its text and hashes like it, but its repr is stars."""
    one = check_token("token", TOKEN)
    assert one == TOKEN
    assert hash(one) == hash(TOKEN)
    assert one.encode() == TOKEN.encode()
    assert repr(one) == "'***'"
    assert f"{[one]!r}" == "['***']"
    assert "".join(one) == TOKEN


def test_copies_of_a_secret_are_secrets() -> None:
    """Copies and pickles of a secret are secrets."""
    one = Secret(TOKEN)
    pickled = pickle.loads(pickle.dumps(one))  # noqa: S301
    for again in (copy.copy(one), copy.deepcopy(one), pickled):
        assert type(again) is Secret
        assert again == TOKEN


def test_secret_is_text_in_json() -> None:
    """Python's JSON encodes a secret as its text, since it is a string."""
    assert json.loads(json.dumps(Secret(TOKEN))) == TOKEN


def test_each_credential_sends_its_own_headers() -> None:
    """`authToken` is never sent together with a store hash."""
    assert StoreAuth("abc123", TOKEN).headers("t") == {"X-Auth-Token": "t", "X-Store-Hash": "abc123"}
    assert LegacyAuth(TOKEN).headers("t") == {"authToken": "t"}


def test_store_key_identifies_the_store() -> None:
    """The quota's key is the store hash, or the token if no hash is known."""
    assert StoreAuth("abc123", "one").store == StoreAuth("abc123", "two").store
    assert StoreAuth("abc123", "one").store != StoreAuth("xyz789", "one").store
    assert LegacyAuth("one").store == LegacyAuth("one").store != LegacyAuth("two").store


def test_provider_is_not_called_early() -> None:
    """A callable passed as the token is not called before a token is needed."""
    assert StoreAuth("abc123", provide).token is provide
    assert LegacyAuth(provide).token is provide
