"""Checks a copy for consistency. Only a sync can compare it with the store."""

from __future__ import annotations

from pathlib import Path

from b2b_payments._errors import VerificationError
from b2b_payments._tables.columns import LINE_ITEMS, PAYMENTS
from b2b_payments.export._account import Sums
from b2b_payments.export._database import SYNCED, opened
from b2b_payments.export._reading import DATABASES, detect_format, read_payments, sums_of
from b2b_payments.sync._state import State


def check_copy(path: Path) -> tuple[State, Sums] | None:
    """Return the state and the sums of a copy in a file, or None if the file is not a copy.

    Nothing is written. Raises VerificationError if the state is damaged or line items have no payment, and
    ExportError if the file cannot be read.
    """
    format_ = detect_format(path)
    if format_ not in DATABASES or not path.is_file():
        return None
    with opened(DATABASES[format_], path, read_only=True, doing="read") as database:
        if SYNCED not in database.names():
            return None
        try:
            ((text,),) = database.execute(f"SELECT state FROM {database.schema}.{SYNCED}").fetchall()  # noqa: S608
            state = State.unpack(text)
        except (ValueError, LookupError, TypeError, RecursionError):
            state = None
        if state is None:
            raise VerificationError(
                f"The sync state of {path} is damaged, or was written by another version of this library."
            )
        payments = f"SELECT id FROM {database.schema}.{PAYMENTS.name}"  # noqa: S608
        if orphans := database.count(f"{LINE_ITEMS.name} WHERE payment_id NOT IN ({payments})"):
            raise VerificationError(
                f"{path} was changed: {orphans:,} of its line items belong to no payment."
            )
    return state, sums_of(read_payments(path, format_))
