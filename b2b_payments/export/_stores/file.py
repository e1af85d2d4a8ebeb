"""The stores file: which stores there are, how to reach each, and which variable holds its token.

::

    [[stores]]
    name = "north"                      # the name of its file: north.jsonl
    store_hash = "abc123"
    access_token_env = "NORTH_TOKEN"    # or only auth_token_env, for the legacy token
    base_url = "https://..."            # these three are optional
    quota = "150/60"
    channels = [1, 2]

Every mistake raises a ConfigurationError that names the file, the store and the key.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from b2b_payments._auth import LegacyAuth, StoreAuth
from b2b_payments._client import BASE_URL
from b2b_payments._errors import ConfigurationError
from b2b_payments._quota import Quota
from b2b_payments._retry import RetryPolicy
from b2b_payments.export._file import PathLike, path_of
from b2b_payments.export._stores.store import Store, TokenFromEnv, is_file_name, located, refuse_duplicates

_CREDENTIALS = frozenset({"accesstoken", "authtoken", "token", "xauthtoken", "secret", "clientsecret"})
_EXAMPLE = 'name = "north", store_hash = "abc123" and access_token_env = "NORTH_TOKEN"'


def read_stores(
    path: PathLike,
    *,
    base_url: str | None = None,
    quota: Quota | None = None,
    retry: RetryPolicy | None = None,
) -> list[Store]:
    """Read the stores, in the file's order. Tokens are not read yet, and nothing is sent.

    `base_url` (or the variable B2B_PAYMENTS_BASE_URL) and `quota` are defaults for stores that do not set
    them; `retry` is used for all stores.

    Raises ConfigurationError for every mistake, including duplicate stores.
    """
    file_path = os.fspath(path_of(path))
    defaults = {
        "base_url": base_url or os.environ.get("B2B_PAYMENTS_BASE_URL") or BASE_URL,
        "quota": quota or Quota(),
        "retry": retry or RetryPolicy(),
    }
    stores = []
    for number, table in enumerate(_tables(file_path), start=1):
        name = table.get("name")
        valid = isinstance(name, str) and is_file_name(name)
        with located(f"{file_path}, store {repr(name) if valid else f'number {number}'}"):
            stores.append(_store(table, defaults))
    with located(file_path):
        refuse_duplicates(stores)
    return stores


def _tables(path: str) -> list[Any]:
    try:
        # Some editors write a byte order mark, which TOML does not allow.
        document = tomllib.loads(Path(path).read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigurationError(f"{path} does not exist.") from None
    except OSError as error:
        raise ConfigurationError(f"{path} could not be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8: save it as UTF-8.") from None
    except ValueError as error:  # TOMLDecodeError, or an integer of thousands of digits
        raise ConfigurationError(f"{path} is not TOML: {error}.") from None
    except RecursionError:
        raise ConfigurationError(f"{path} is not readable TOML: it is nested too deeply.") from None
    with located(path):
        _refuse_credentials(document)
        if unknown := document.keys() - {"stores"}:
            raise ConfigurationError(f"{min(unknown)!r} is unknown: write each store under a line [[stores]]")
        tables = document.get("stores", [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise ConfigurationError(
                "stores is not a list of tables: write each store under a line [[stores]]"
            )
    if not tables:
        raise ConfigurationError(f"{path} names no store: write a line [[stores]], and under it {_EXAMPLE}.")
    return tables


def _refuse_credentials(table: Iterable[str]) -> None:
    for key in table:
        if key.lower().replace("_", "").replace("-", "") in _CREDENTIALS:
            raise ConfigurationError(
                f"{key} is a credential, and credentials do not belong in a file: put it into an environment "
                'variable, and name that variable, as in access_token_env = "NORTH_TOKEN"'
            )


def _text(value: object) -> str:
    # The value is not shown: it may be a token in the wrong place.
    if not isinstance(value, str):
        raise ValueError("is not a string: write it in quotes")  # noqa: TRY004 - an error in the file
    if not value:
        raise ValueError("is empty: fill it in, or leave it out")
    return value


def _channels(value: Any) -> tuple[int, ...]:
    are_ids = isinstance(value, list) and all(type(one) is int and one > 0 for one in value)
    if not are_ids or not value:
        raise ValueError("is not a list of channel ids: write channels = [1, 2]")
    return tuple(value)


_KEYS: Mapping[str, Callable[[object], Any]] = {
    "name": _text,
    "store_hash": _text,
    "access_token_env": _text,
    "auth_token_env": _text,
    "base_url": _text,
    "quota": lambda value: Quota.parse(_text(value)),
    "channels": _channels,
}
"""The keys of a store, and what parses their values. Raises ValueError."""


def _parsed(table: Mapping[str, Any]) -> Mapping[str, Any]:
    _refuse_credentials(table)
    if unknown := table.keys() - _KEYS.keys():
        raise ConfigurationError(f"{min(unknown)!r} is unknown; known keys are {', '.join(_KEYS)}")
    values = {}
    for key, parse in _KEYS.items():
        if key in table:
            try:
                values[key] = parse(table[key])
            except ValueError as error:
                colon = ":" if isinstance(error, ConfigurationError) else ""
                raise ConfigurationError(f"{key}{colon} {error}") from None
    return values


def _store(table: Mapping[str, Any], defaults: Mapping[str, Any]) -> Store:
    values = _parsed(table)
    if "name" not in values:
        raise ConfigurationError('name is missing: it names the store and its file, as in name = "north"')
    settings = {name: values.get(name, default) for name, default in defaults.items()}
    return Store(values["name"], _auth(values), channel_ids=values.get("channels"), **settings)


def _auth(values: Mapping[str, Any]) -> StoreAuth | LegacyAuth:
    store_hash = values.get("store_hash")
    access, legacy = values.get("access_token_env"), values.get("auth_token_env")
    if access is not None and legacy is not None:
        raise ConfigurationError("give access_token_env or auth_token_env, not both")
    if legacy is not None and store_hash is not None:
        raise ConfigurationError(
            "store_hash goes with access_token_env: with auth_token_env leave it out, since the legacy "
            "token alone says which store it is"
        )
    if legacy is not None:
        return LegacyAuth(_variable("auth_token_env", legacy))
    if access is None:
        raise ConfigurationError(
            "access_token_env is missing: name the environment variable that holds the token, as in "
            'access_token_env = "NORTH_TOKEN"'
        )
    if store_hash is None:
        raise ConfigurationError('store_hash is missing: give it, as in store_hash = "abc123"')
    return StoreAuth(store_hash, _variable("access_token_env", access))


def _variable(key: str, name: str) -> TokenFromEnv:
    try:
        return TokenFromEnv(name)
    except ConfigurationError as error:
        raise ConfigurationError(error.message.replace("This", key, 1)) from None
