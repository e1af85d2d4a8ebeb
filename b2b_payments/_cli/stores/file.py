"""The file of stores: which there are, how to reach each, and which variable holds its token.

::

    [[stores]]
    name = "north"                      # names its file: north.jsonl
    store_hash = "abc123"
    access_token_env = "NORTH_TOKEN"    # or auth_token_env alone, the older way
    base_url = "https://..."            # these three may be left out
    quota = "150/60"
    channels = [1, 2]

Every mistake is a StoresFileError that names the file, the store and the key.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import normalize

import attrs
from cattrs import AttributeValidationNote, ClassValidationError, Converter, ForbiddenExtraKeysError

from b2b_payments._auth import LegacyAuth, StoreAuth
from b2b_payments._cli import values
from b2b_payments._cli.command import USAGE, CommandError
from b2b_payments._cli.connection import Connection
from b2b_payments._client import BASE_URL, PaymentsClient, shared_by_env
from b2b_payments._errors import ConfigurationError
from b2b_payments._printable import frozen
from b2b_payments._quota import Quota
from b2b_payments._retry import RetryPolicy
from b2b_payments._secret import Secret

if TYPE_CHECKING:
    from b2b_payments.events import Listener

_CREDENTIALS = frozenset({"accesstoken", "authtoken", "token", "xauthtoken", "secret", "clientsecret"})
_NAME = re.compile(r"\w(?:[\w .-]*[\w-])?")
_LONGEST_NAME = 40
_RESERVED = frozenset({"con", "prn", "aux", "nul"}) | {
    f"{port}{n}" for port in ("com", "lpt") for n in range(10)
}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_CAPITALS = re.compile(r"[A-Z_][A-Z0-9_]*", re.ASCII)
_EXAMPLE = 'name = "north", store_hash = "abc123" and access_token_env = "NORTH_TOKEN"'


class StoresFileError(CommandError):
    """The file of stores cannot be used: a sentence that names the file, the store and the key."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, USAGE)


@frozen
class Store:
    """A store of the file. `variable` names what holds its token."""

    name: str
    auth: StoreAuth | LegacyAuth
    variable: str
    base_url: str = attrs.field(repr=False)
    quota: Quota
    channels: tuple[int, ...] | None
    retry: RetryPolicy

    @property
    def identity(self) -> str:
        """What tells it from others, for a note on the disk: nothing secret."""
        return f"{self.base_url} {self.auth.name or self.variable}"

    def client(self, on_event: Listener | None = None) -> PaymentsClient:
        """Make a client. Raises ConfigurationError for what cannot work."""
        return PaymentsClient(
            self.auth,
            base_url=self.base_url,
            quota=self.quota,
            retry=self.retry,
            on_event=on_event,
            trust_env=True,
        )


def read_stores(path: str, connection: Connection) -> list[Store]:
    """Read the stores, in the file's order; `connection` has what holds for those that do not say.

    Raises StoresFileError for every mistake, a variable that is not set and a store that is there twice among
    them. Nothing is sent.
    """
    entries = _entries(path)
    stores = [_Entry(path, place, entry).store(connection) for place, entry in enumerate(entries, start=1)]
    _refuse_twice(path, stores)
    return stores


def _entries(path: str) -> list[Any]:
    try:
        # Some editors put a byte order mark in front, which TOML does not know.
        written = tomllib.loads(Path(path).read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise StoresFileError(f"{path} does not exist.") from None
    except OSError as error:
        raise StoresFileError(f"{path} could not be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise StoresFileError(f"{path} is not UTF-8: save it as that.") from None
    except ValueError as error:  # TOMLDecodeError, and an integer of thousands of digits
        raise StoresFileError(f"{path} is not TOML: {error}.") from None
    except RecursionError:
        raise StoresFileError(f"{path} is not TOML that can be read: it is nested too deep.") from None
    for key in written:
        _refuse_credential(path, key)
        if key != "stores":
            raise StoresFileError(f"{path}: {key!r} is unknown: write each store under a line [[stores]].")
    entries = written.get("stores", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise StoresFileError(
            f"{path}: stores is not a list of tables: write each store under a line [[stores]]."
        )
    if not entries:
        raise StoresFileError(f"{path} names no store: write a line [[stores]], and under it {_EXAMPLE}.")
    return entries


def _refuse_credential(where: str, key: str) -> None:
    if key.lower().replace("_", "").replace("-", "") in _CREDENTIALS:
        raise StoresFileError(
            f"{where}: {key} is a credential, and a credential is never in a file: take it out, put it into "
            'an environment variable, and name that, as in access_token_env = "NORTH_TOKEN".'
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


class _Entry:
    """One store of the file. Every method raises StoresFileError for what is wrong with it."""

    def __init__(self, path: str, place: int, table: dict[str, Any]) -> None:
        name = table.get("name")
        named = isinstance(name, str) and _is_file_name(name)
        self._where = f"{path}, store {name!r}" if named else f"{path}, store number {place}"
        for key in table:
            _refuse_credential(self._where, key)
        try:
            self._table = _reader.structure(table, _Table)
        except ClassValidationError as failure:
            raise self._wrong(_problem(failure)) from None

    def store(self, connection: Connection) -> Store:
        """Give the store."""
        name = self._name()
        auth, variable = self._auth()
        base_url = self._table.base_url or connection.base_url or os.environ.get("B2B_PAYMENTS_BASE_URL")
        if base_url and (problem := values.problem_with_base_url(base_url)):
            raise self._wrong(f"base_url: {problem}")
        store = Store(
            name,
            auth,
            variable,
            Secret(base_url or BASE_URL),
            shared_by_env(self._table.quota or connection.quota or Quota()),
            self._table.channels,
            connection.retry,
        )
        try:
            store.client()
        except ConfigurationError as error:
            raise self._wrong(error.message) from None
        return store

    def _wrong(self, problem: str) -> StoresFileError:
        return StoresFileError(f"{self._where}: {problem.rstrip('.')}.")

    def _name(self) -> str:
        name = self._table.name
        if name is None:
            raise self._wrong('name is missing: give one for its file, as in name = "north"')
        if not _is_file_name(name):
            raise self._wrong(
                "name cannot be the name of a file: give letters, digits, '-', '_', '.' and spaces, "
                f"{_LONGEST_NAME} at most, with a letter or digit in front, and none that systems reserve, "
                "such as 'con'"
            )
        return normalize("NFC", name)

    def _auth(self) -> tuple[StoreAuth | LegacyAuth, str]:
        store_hash, older = self._table.store_hash, self._table.auth_token_env
        access = self._table.access_token_env
        if access is not None and older is not None:
            raise self._wrong("give access_token_env or auth_token_env, not both")
        if older is not None and store_hash is not None:
            raise self._wrong(
                "store_hash goes with access_token_env: beside auth_token_env leave it out, since the older "
                "token alone says which store it is"
            )
        if older is None and access is None:
            raise self._wrong(
                "access_token_env is missing: name the environment variable that holds the token, as in "
                'access_token_env = "NORTH_TOKEN"'
            )
        try:
            if older is not None:
                return LegacyAuth(self._token("auth_token_env", older)), older
            if store_hash is None:
                raise self._wrong('store_hash is missing: give it, as in store_hash = "abc123"')
            return StoreAuth(store_hash, self._token("access_token_env", access or "")), access or ""
        except ConfigurationError as error:
            raise self._wrong(error.message) from None

    def _token(self, key: str, variable: str) -> Secret:
        if not _VARIABLE.fullmatch(variable):
            raise self._wrong(
                f"{key} is not the name of an environment variable: put the token into a variable, and its "
                "name here, as in NORTH_TOKEN"
            )
        token = Secret(os.environ.get(variable, ""))
        if not token:
            # Tokens are written in small letters, names of variables hardly ever: a token here is not shown.
            shown = variable if _CAPITALS.fullmatch(variable) else f"that {key} names"
            state = "empty" if variable in os.environ else "not set"
            raise self._wrong(f"the environment variable {shown} is {state}: set it to the store's token")
        return token


def _is_file_name(name: str) -> bool:
    return (
        _NAME.fullmatch(normalize("NFC", name)) is not None
        and len(name) <= _LONGEST_NAME
        and name.partition(".")[0].rstrip().lower() not in _RESERVED
    )


def folded(text: str) -> str:
    """Give what two names have in common that some file system takes for one."""
    return normalize("NFC", normalize("NFC", text).casefold())


def _refuse_twice(path: str, stores: Iterable[Store]) -> None:
    names: dict[str, Store] = {}
    reached: dict[tuple[str, object], Store] = {}
    for store in stores:
        if (first := names.setdefault(folded(store.name), store)) is not store:
            raise StoresFileError(
                f"{path}: two stores are called {first.name!r} and {store.name!r}, which is one file on some "
                "systems: give each a name of its own."
            )
        place = (store.base_url.rstrip("/").lower(), store.auth.store)
        if (first := reached.setdefault(place, store)) is not store:
            what = "store_hash" if isinstance(store.auth, StoreAuth) else "token"
            raise StoresFileError(
                f"{path}: {first.name!r} and {store.name!r} have the same {what}: name each store once, "
                "since the two would do the same work and share one quota."
            )
