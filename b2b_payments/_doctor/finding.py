"""A finding: what a service does, and what that means for whoever uses this library."""

from __future__ import annotations

from functools import partial
from typing import Literal

from b2b_payments._printable import frozen


@frozen
class Finding:
    """What was found on a topic.

    `level` says whether it is as this library expects ("fine"), otherwise, though it copes ("note"), or
    something is to be done or cannot work ("problem"); "unknown" is what could not be told. `verdict` names
    it for programs, in the same words for each service that does so. `seen` says what was seen, `means` what
    it means for this library, `advice` what to set or do; the last is empty where there is nothing to do.

    No text holds anything that the service sent but numbers of its answers (rows, seconds, requests, codes
    of up to three digits), and names of fields.
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
