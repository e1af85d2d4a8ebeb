"""The file of stores: which there are, how to reach each, and which variable holds its token.

::

    [[stores]]
    name = "north"                      # names its file: north.jsonl
    store_hash = "abc123"
    access_token_env = "NORTH_TOKEN"    # or auth_token_env alone, the older way
    base_url = "https://..."            # these three may be left out
    quota = "150/60"
    channels = [1, 2]

Every mistake is a ConfigurationError that names the file, the store and the key.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
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
from b2b_payments.export._stores.store import Store, TokenFromEnv, is_file_name, refuse_twice

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

    What a store does not say itself is as given here: its `base_url` (or that of B2B_PAYMENTS_BASE_URL), its
    `quota`, its `retry`.

    Raises ConfigurationError for every mistake, a store that is there twice among them.
    """
    where = os.fspath(path_of(path))
    rest = {
        "base_url": base_url or os.environ.get("B2B_PAYMENTS_BASE_URL") or BASE_URL,
        "quota": quota or Quota(),
        "retry": retry or RetryPolicy(),
    }
    stores = []
    for place, table in enumerate(_tables(where), start=1):
        name = table.get("name")
        named = isinstance(name, str) and is_file_name(name)
        with _mistakes_at(f"{where}, store {name!r}" if named else f"{where}, store number {place}"):
            stores.append(_store(table, rest))
    with _mistakes_at(where):
        refuse_twice(stores)
    return stores


@contextmanager
def _mistakes_at(where: str) -> Iterator[None]:
    """Say where in the file a mistake is."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error.message.removesuffix('.')}.") from None


def _tables(path: str) -> list[Any]:
    try:
        # Some editors put a byte order mark in front, which TOML does not know.
        written = tomllib.loads(Path(path).read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigurationError(f"{path} does not exist.") from None
    except OSError as error:
        raise ConfigurationError(f"{path} could not be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8: save it as that.") from None
    except ValueError as error:  # TOMLDecodeError, and an integer of thousands of digits
        raise ConfigurationError(f"{path} is not TOML: {error}.") from None
    except RecursionError:
        raise ConfigurationError(f"{path} is not TOML that can be read: it is nested too deep.") from None
    with _mistakes_at(path):
        _refuse_credentials(written)
        if unknown := written.keys() - {"stores"}:
            raise ConfigurationError(f"{min(unknown)!r} is unknown: write each store under a line [[stores]]")
        tables = written.get("stores", [])
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
                f"{key} is a credential, and a credential is never in a file: take it out, put it into an "
                'environment variable, and name that, as in access_token_env = "NORTH_TOKEN"'
            )


@frozen
class _Table:
    """One table of the file, as it is written: what has to be there is looked at afterwards."""

    name: str | None = None
    store_hash: str | None = None
    access_token_env: str | None = None
    auth_token_env: str | None = None
    base_url: str | None = None
    quota: Quota | None = None
    channels: tuple[int, ...] | None = None


def _text(value: object, _: object) -> str:
    # The value is not shown: a token in the wrong place would be.
    if not isinstance(value, str):
        raise ValueError("is no text: write it in quotes")  # noqa: TRY004 - a mistake of the file
    if not value:
        raise ValueError("is empty: fill it in, or leave it out")
    return value


def _channels(value: Any, _: object) -> tuple[int, ...]:
    known = isinstance(value, list) and all(type(one) is int and one > 0 for one in value)
    if not known or not value:
        raise ValueError("is no list of channels' ids: write it as in channels = [1, 2]")
    return tuple(value)


_reader = Converter(forbid_extra_keys=True)
_reader.register_structure_hook(str, _text)
_reader.register_structure_hook(Quota, lambda value, kind: Quota.parse(_text(value, kind)))
_reader.register_structure_hook_func(lambda kind: kind == tuple[int, ...], _channels)


def _problem(failure: ClassValidationError) -> str:
    """Say what is wrong with a table, an unknown key first."""
    for error in failure.exceptions:
        if isinstance(error, ForbiddenExtraKeysError):
            known = ", ".join(attrs.fields_dict(_Table))
            return f"{min(error.extra_fields)!r} is unknown; known are {known}"
    error = failure.exceptions[0]
    notes = [note.name for note in error.__notes__ if isinstance(note, AttributeValidationNote)]
    return f"{notes[0]}{':' if isinstance(error, ConfigurationError) else ''} {error}"


def _store(written: Mapping[str, Any], rest: Mapping[str, Any]) -> Store:
    _refuse_credentials(written)
    try:
        table = _reader.structure(written, _Table)
    except ClassValidationError as failure:
        raise ConfigurationError(_problem(failure)) from None
    if table.name is None:
        raise ConfigurationError('name is missing: give one for its file, as in name = "north"')
    said = {"base_url": table.base_url, "quota": table.quota}
    given = {**rest, **{name: value for name, value in said.items() if value is not None}}
    return Store(table.name, _auth(table), channel_ids=table.channels, **given)


def _auth(table: _Table) -> StoreAuth | LegacyAuth:
    store_hash, access, older = table.store_hash, table.access_token_env, table.auth_token_env
    if access is not None and older is not None:
        raise ConfigurationError("give access_token_env or auth_token_env, not both")
    if older is not None and store_hash is not None:
        raise ConfigurationError(
            "store_hash goes with access_token_env: beside auth_token_env leave it out, since the older "
            "token alone says which store it is"
        )
    if older is not None:
        return LegacyAuth(_variable("auth_token_env", older))
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
