"""The interface of a contender, and the list of contenders."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import attrs

Visit = Callable[[Any], object]
"""Called with each payment."""


@attrs.frozen
class Where:
    """The service to read: its URL, the credential's headers, rows per page, and requests in flight.

    `quota` is requests and seconds, for contenders that support one. `generated` is the generated client's
    folder.
    """

    base_url: str
    headers: Mapping[str, str]
    page_size: int = 250
    in_flight: int = 1
    quota: tuple[int, float] | None = None
    generated: str = ""


class Contender(Protocol):
    """A module of `rivals`."""

    def read(self, where: Where, visit: Visit) -> None:
        """Call `visit` with every payment, in the form that this library returns."""

    def payment_id(self, payment: Any) -> int:
        """Return a payment's id."""

    def line(self, payment: Any) -> bytes:
        """Return a payment as a line of JSON."""


@attrs.frozen
class Entry:
    """A contender's row in the tables: its module, name, imports, and whether it fetches pages ahead."""

    key: str
    name: str
    imports: str
    ahead: bool = True


TYPED = Entry("ours", "b2b_payments, typed", "from b2b_payments import PaymentsClient")
RAW = Entry("ours_raw", "b2b_payments, raw", "from b2b_payments import PaymentsClient")
FLOOR = Entry("floor", "floor: aiohttp + orjson, dicts", "import aiohttp, orjson")
PYDANTIC = Entry("httpx_pydantic", "httpx + pydantic v2", "import httpx, pydantic")
REQUESTS = Entry("requests_json", "requests, dicts", "import requests", ahead=False)
DLT = Entry(
    "dlt_client",
    "dlt RESTClient, dicts",
    "from dlt.sources.helpers.rest_client import RESTClient",
    ahead=False,
)
GENERATED = Entry("generated", "openapi-python-client", "import httpx, attrs, dateutil.parser")

ALL = (FLOOR, TYPED, RAW, PYDANTIC, GENERATED, REQUESTS, DLT)


def load(key: str) -> Contender:
    """Import a contender's module. Raises ImportError if its library is not installed."""
    module: Any = importlib.import_module(f"benchmarks.compare.rivals.{key}")
    contender: Contender = module
    return contender
