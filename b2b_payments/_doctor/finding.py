"""A finding: how a service behaves, and what that means for users of this library."""

from __future__ import annotations

from functools import partial
from typing import Literal

from b2b_payments._printable import frozen


@frozen
class Finding:
    """What was found out about a topic.

    `level` is "fine" if the service behaves as this library expects, "note" if it does not but the library
    copes, "problem" if something does not work or needs action, "unknown" if it could not be determined.
    `verdict` is a fixed phrase for programs, the same for every service that behaves alike. `seen` says what
    was observed, `means` the consequence for this library, `advice` what to set or do, or "" for nothing.

    No text has data that the service sent, except names of fields and numbers from its responses (rows,
    seconds, requests, codes of up to three digits).
    """

    level: Literal["fine", "note", "problem", "unknown"]
    verdict: str
    seen: str
    means: str = ""
    advice: str = ""


fine = partial(Finding, "fine")
note = partial(Finding, "note")
problem = partial(Finding, "problem")
unknown = partial(Finding, "unknown", "unknown")
