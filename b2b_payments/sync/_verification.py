"""Checking a copy for itself: a sync alone can hold it against the store."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from b2b_payments._errors import VerificationError
from b2b_payments._tables.columns import LINE_ITEMS, PAYMENTS
from b2b_payments.export._account import Sums
from b2b_payments.export._database import SYNCED, opened
from b2b_payments.export._reading import DATABASES, found_format, read_payments
from b2b_payments.sync._state import State

_AT_ONCE = 2_000


def check_copy(path: Path) -> tuple[State, Sums] | None:
    """Return what a copy in a file says of itself, and what it holds; None for a file that is no copy.

    Nothing is written. Raises VerificationError where what it says is damaged, or line items are of no
    payment, and ExportError where it cannot be read.
    """
    format_ = found_format(path)
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
            raise VerificationError(f"What {path} says of itself is damaged, or by another version.")
        payments = f"SELECT id FROM {database.schema}.{PAYMENTS.name}"  # noqa: S608
        if lost := database.count(f"{LINE_ITEMS.name} WHERE payment_id NOT IN ({payments})"):
            raise VerificationError(f"{path} was changed: {lost:,} of its line items are of no payment.")
    sums, found = Sums(), read_payments(path, format_)
    while some := list(islice(found, _AT_ONCE)):
        sums.add((one.status, one.currency, one.amount) for one in some)
    return state, sums
