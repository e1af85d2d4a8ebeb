"""The quota as the caller configures it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from b2b_payments._errors import ConfigurationError
from b2b_payments._quota import (
    Quota,
)


def test_default_is_the_documented_quota() -> None:
    """The default is 150 requests in 60 seconds, counted over half a second more."""
    quota = Quota()
    assert (quota.requests, quota.per, quota.limit, quota.span) == (150, 60.0, 150, 60.5)


@pytest.mark.parametrize(
    ("requests", "share", "limit"),
    [(150, 0.8, 120), (100, 0.29, 29), (10, 0.7, 7), (10, 0.25, 2), (3, 0.1, 1)],
)
def test_share_is_rounded_down_to_at_least_one(requests: int, share: float, limit: int) -> None:
    """A share is a whole number of requests, at least 1, and unaffected by binary fractions."""
    assert Quota(requests, share=share).limit == limit


@pytest.mark.parametrize(("text", "quota"), [("150/60", Quota()), (" 5/0.5 ", Quota(5, 0.5))])
def test_quota_is_parsed_from_text(text: str, quota: Quota) -> None:
    """Requests, a slash and seconds make a quota."""
    assert Quota.parse(text) == quota


@pytest.mark.parametrize("text", ["", "150", "a/b", "1/-1", "0/60", "150/0", "150/60/2", "1e3/60", "150/nan"])
def test_invalid_text_is_refused(text: str) -> None:
    """Any other text is a configuration error."""
    with pytest.raises(ConfigurationError, match="Quota"):
        Quota.parse(text)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("requests", value) for value in (0, -1, 1.5, True, "150", None)],
        *[("per", value) for value in (0, -1, math.inf, math.nan, True, "60")],
        *[("share", value) for value in (0, 1.01, -1, math.nan, True, "1")],
        *[("margin", value) for value in (-0.1, math.inf, math.nan, True, None)],
    ],
)
def test_invalid_setting_is_named(name: str, value: Any) -> None:
    """An invalid setting is refused, with its name and value."""
    with pytest.raises(ConfigurationError) as caught:
        Quota(**{name: value})
    assert f"{name}={value!r}" in str(caught.value)


@pytest.mark.parametrize(
    "path", ["a\0b", "\ud800x", "a" * 5_000, "é" * 128, "", "http://host", "redis://", 1]
)
def test_invalid_path_is_refused(path: Any) -> None:
    """A path that could not be opened is already refused when the quota is created."""
    with pytest.raises(ConfigurationError, match="must be True for this user's processes, the path"):
        Quota(shared=path)


def test_unusual_paths_are_allowed() -> None:
    """Long paths and file names that are not UTF-8 (as Python represents them) are allowed."""
    for path in ("/folder/" * 400, "caf\u00e9", "caf\udce9"):
        assert Quota(shared=path).shared == path
