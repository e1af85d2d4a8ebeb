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
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
from cattrs import AttributeValidationNote, ClassValidationError, Converter, ForbiddenExtraKeysError

from b2b_payments._auth import LegacyAuth, StoreAuth
from b2b_payments._client import BASE_URL
from b2b_payments._errors import ConfigurationError
from b2b_payments._printable import frozen
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


@frozen
class _Table:
    """One table of the file, as written. Required keys are checked later."""

    name: str | None = None
    store_hash: str | None = None
    access_token_env: str | None = None
    auth_token_env: str | None = None
    base_url: str | None = None
    quota: Quota | None = None
    channels: tuple[int, ...] | None = None


def _text(value: object, _: object) -> str:
    # The value is not shown: it may be a token in the wrong place.
    if not isinstance(value, str):
        raise ValueError("is not a string: write it in quotes")  # noqa: TRY004 - an error in the file
    if not value:
        raise ValueError("is empty: fill it in, or leave it out")
    return value


def _channels(value: Any, _: object) -> tuple[int, ...]:
    are_ids = isinstance(value, list) and all(type(one) is int and one > 0 for one in value)
    if not are_ids or not value:
        raise ValueError("is not a list of channel ids: write channels = [1, 2]")
    return tuple(value)


_reader = Converter(forbid_extra_keys=True)
_reader.register_structure_hook(str, _text)
_reader.register_structure_hook(Quota, lambda value, kind: Quota.parse(_text(value, kind)))
_reader.register_structure_hook_func(lambda kind: kind == tuple[int, ...], _channels)


def _problem(failure: ClassValidationError) -> str:
    """Describe what is wrong with a table; an unknown key comes first."""
    for error in failure.exceptions:
        if isinstance(error, ForbiddenExtraKeysError):
            known = ", ".join(attrs.fields_dict(_Table))
            return f"{min(error.extra_fields)!r} is unknown; known keys are {known}"
    error = failure.exceptions[0]
    notes = [note.name for note in error.__notes__ if isinstance(note, AttributeValidationNote)]
    return f"{notes[0]}{':' if isinstance(error, ConfigurationError) else ''} {error}"


def _store(document: Mapping[str, Any], defaults: Mapping[str, Any]) -> Store:
    _refuse_credentials(document)
    try:
        table = _reader.structure(document, _Table)
    except ClassValidationError as failure:
        raise ConfigurationError(_problem(failure)) from None
    if table.name is None:
        raise ConfigurationError('name is missing: it names the store and its file, as in name = "north"')
    table_settings = {"base_url": table.base_url, "quota": table.quota}
    settings = {**defaults, **{name: value for name, value in table_settings.items() if value is not None}}
    return Store(table.name, _auth(table), channel_ids=table.channels, **settings)


def _auth(table: _Table) -> StoreAuth | LegacyAuth:
    store_hash, access, legacy = table.store_hash, table.access_token_env, table.auth_token_env
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
