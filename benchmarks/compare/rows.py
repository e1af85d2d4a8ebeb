"""Rows of a different shape than the sandbox's: those of a store that uses more of the service."""

from __future__ import annotations

from typing import Any

from b2b_payments.sandbox import Store

_TEXTS = (
    "Müller & Söhne, Ersatzteile für Förderbänder", "Ελληνικά Έργα ΑΕ, ανταλλακτικά",
    "株式会社山田製作所 第二営業部", "مصنع النور للصناعات الكهربائية",
)  # fmt: skip
_FIRST, _APART = 1_617_235_200, 300  # epoch seconds


def fill(store: Store, payments: int) -> None:
    """Put payments into an empty store."""
    for number in range(payments):
        store.insert(created_at=_FIRST + _APART * number, **_fields(number))


def _fields(number: int) -> dict[str, Any]:
    text = _TEXTS[number % 4]
    extra = {"poNumber": f"PO-{number}", "salesRep": {"name": text, "id": number}} if number % 10 == 0 else {}
    return {
        "payerName": text,
        "customerName": text,
        "details": {"memo": f"{text}: {text}", "ref": f"R{number}"},
        "fees": [{"type": "surcharge", "description": text, "amount": number % 97 / 4}] * (number % 3),
        "lineItems": [
            {
                "invoiceId": number + line,
                "invoiceNumber": f"INV-{number + line:06d}",
                "amount": {"code": "USD", "value": f"{number % 997 + line}.2500"},
            }
            for line in range(2 + number % 5)
        ],
        **extra,
    }
