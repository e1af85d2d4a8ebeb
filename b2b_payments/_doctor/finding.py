"""A finding: what a service does, and what that means for whoever uses this library."""

from __future__ import annotations

from typing import Literal

from b2b_payments._printable import frozen

Level = Literal["fine", "note", "problem", "unknown"]


@frozen
class Finding:
    """What was found on a `topic`.

    `verdict` names it for programs, in the same words for each service that does so. `level` says whether it
    is as this library expects ("fine"), otherwise, though it copes ("note"), or something is to be done or
    cannot work ("problem"); "unknown" is what could not be told. `seen` says what was seen, `means` what it
    means for this library, `advice` what to set or do; the last is empty where there is nothing to do.

    No text holds anything that the service sent but numbers of its answers (rows, seconds, requests, codes
    of up to three digits), and names of fields.
    """

    topic: str
    verdict: str
    level: Level
    seen: str
    means: str = ""
    advice: str = ""


def unknown(topic: str, why: str) -> Finding:
    """Give the finding that something could not be told."""
    return Finding(topic, "unknown", "unknown", why)
