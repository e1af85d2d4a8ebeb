"""What a response model remembers of the way the service spelled it.

An attribute alone cannot tell an absent field from a null one, or the id ``"70"`` from 70. So each response
model keeps, beside its public attributes, a private mapping `_sent`: wire name → what stood there, for those
fields only that were not spelled the usual way. It is no part of a model's equality, hash or `repr`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, TypeAlias


class Absent(Enum):
    """The type of `ABSENT`: an enum, so that copies and pickles of it are it."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT
"""Stands for a field that the service left out."""

Sent: TypeAlias = Mapping[str, object] | None
"""None: built by a caller, not by the service; then fields left at their default are left out."""
