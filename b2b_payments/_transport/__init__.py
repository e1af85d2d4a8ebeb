"""How requests reach the service: one request out, one whole answer in, every failure one of ours."""

from b2b_payments._transport.transport import MAX_BODY, Transport

__all__ = ["MAX_BODY", "Transport"]
