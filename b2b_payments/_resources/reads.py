"""Reads an object or a list of the service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from b2b_payments._call import Caller
from b2b_payments._errors import ResponseDecodeError
from b2b_payments._protocol.request import Request

T = TypeVar("T")


async def read(caller: Caller, request: Request, structure: Callable[[Any], T]) -> T:
    """Send a request, and return the answer's data, converted by `structure`. Its error names the request."""
    reply = await caller.call(request)
    try:
        return structure(reply.data)
    except ResponseDecodeError as error:
        error.message = f"{request.method} {request.path}: {error.message}"
        raise
