"""Addresses of PostgreSQL servers, whose credentials are never shown."""

from __future__ import annotations

import re
from typing import Any, Final

from b2b_payments._arguments import check
from b2b_payments._errors import ConfigurationError
from b2b_payments._printable import frozen
from b2b_payments._secret import Secret

_is_schema: Final = re.compile(r"[\w .-]+").fullmatch
_LONGEST_NAME = 63  # bytes; PostgreSQL would truncate longer names


@frozen(init=False)
class Server:
    """A schema of a database on a server. Its text contains no credentials.

    Raises ConfigurationError for an invalid address or schema name, or if the extra is missing.
    """

    dsn: Secret
    schema: str
    _shown: str

    def __init__(self, dsn: str, schema: str) -> None:
        check("dsn", dsn, str, "an address, such as 'postgresql://user@host:5432/name'")
        check("schema", schema, str, "the name of a schema")
        if not _is_schema(schema) or len(schema.encode()) > _LONGEST_NAME:
            raise ConfigurationError(
                f"{schema!r} cannot be the name of a schema here: use letters, digits, '_', '-', '.' and "
                f"spaces, at most {_LONGEST_NAME} bytes."
            )
        self.__attrs_init__(Secret(dsn), schema, _shown(dsn))

    def __str__(self) -> str:
        return f"{self._shown} (schema {self.schema})"


def is_postgres(address: str) -> bool:
    """Whether an address is a PostgreSQL URL."""
    return address.startswith(("postgresql://", "postgres://"))


def _shown(dsn: str) -> str:
    """Return an address without its credentials. Raises ConfigurationError if it is invalid."""
    psycopg = import_psycopg()
    try:
        found = psycopg.conninfo.conninfo_to_dict(dsn)
    except psycopg.Error:
        found = None
    host, port, name = (str((found or {}).get(part, "")) for part in ("host", "port", "dbname"))
    # With such a character, part of an unescaped password may have been parsed as host, port or name.
    if (
        found is None
        or re.search("[@=&]", host)
        or re.search(r"[@=&:?/\x00-\x1f]", name)
        or re.search("[^0-9,]", port)
    ):
        raise ConfigurationError(
            "The database's address cannot be read: give it in the form postgresql://user@host:5432/name. "
            "Percent-encode special characters of a password (@ as %40), or set PGPASSWORD instead."
        )
    if host.startswith("/"):
        return f"postgresql:///{name}?host={host}"
    return f"postgresql://{host}{port and f':{port}'}/{name}"


def import_psycopg() -> Any:
    """Return the library. Raises ConfigurationError, naming the package to install, if it is missing."""
    try:
        import psycopg  # noqa: PLC0415 - an extra
    except ImportError:  # also if libpq is missing
        raise ConfigurationError("PostgreSQL needs psycopg: pip install 'b2b-payments[postgres]'.") from None
    return psycopg
