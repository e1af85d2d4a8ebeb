"""Sends requests with aiohttp: returns the complete answer, or raises one of this library's errors."""

from b2b_payments._transport.transport import MAX_BODY, Transport

__all__ = ["MAX_BODY", "Transport"]
