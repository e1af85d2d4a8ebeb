"""JSON in and out, with every number kept exact."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from b2b_payments.errors import ResponseDecodeError


def _exact_number(text: str) -> float | Decimal:
    """Give a float where it says exactly what was sent, else a Decimal: money is never rounded."""
    number = float(text)
    exact = Decimal(text)
    return number if Decimal(repr(number)) == exact else exact


_decoder = msgspec.json.Decoder(float_hook=_exact_number)
_encoder = msgspec.json.Encoder(decimal_format="number")


def decode(body: bytes) -> Any:
    """Decode a body.

    Raises ResponseDecodeError for whatever is not JSON in UTF-8, or is nested too deeply to be read.
    """
    try:
        return _decoder.decode(body)
    except RecursionError:
        raise ResponseDecodeError("The answer is nested too deeply to be read.", paths=["$"]) from None
    # ValueError covers msgspec's errors and bad UTF-8; ArithmeticError, exponents that Decimal refuses.
    except (ValueError, ArithmeticError) as error:
        raise ResponseDecodeError(f"The answer is not JSON: {_reason(error)}.", paths=["$"]) from None


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it holds bytes that are not UTF-8"
    # msgspec names the place and the kind of fault, never the content.
    return str(error) if isinstance(error, msgspec.DecodeError) else "a number in it is out of range"


def encode(value: Any) -> bytes:
    """Encode plain JSON values, Decimals as numbers, to UTF-8."""
    return _encoder.encode(value)
