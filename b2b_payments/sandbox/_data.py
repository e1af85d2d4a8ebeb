"""Plausible payments and channels, each a pure function of a seed and its id.

Rows are not stored but generated on demand, so that a million payments fit in memory."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final

from b2b_payments.sandbox._rules import Rules

STORE_HASH: Final = "sbx7k2m9qd"
FIRST_CREATED: Final = 1_617_235_200
"""2021-04-01 UTC, in epoch seconds: no payment is older."""

OFFLINE: Final = "payments_offline"
ORDER: Final = "payments_bigcommerce_sales_order"
CARD: Final = "payments_card"

_YEARS = 2 * 365 * 24 * 3600
_COMPANIES = (
    "Hannah's Hardware", "Müller & Söhne GmbH", "Østfold Bygg AS", "Acme, Inc.", 'The "Original" Pump Co.',
    "株式会社山田製作所", "Café Légère SARL", "Ćwikła Sp. z o.o.", "Northwind\nTraders", "O'Brien Électrique",
    "Zephyr 🌬 Fans", "Ümit İnşaat", "", "Smith; Jones\tand Partners", "Ελληνικά Έργα", "مصنع النور",
)  # fmt: skip
_PEOPLE = (
    "Store offline payment", "Hannah Admin", "José Núñez", "Zoë, the Buyer", 'Bob "Bobby" Tables', "李小龙",
    "Anne\nMarie", "Søren Kierkegård",
)  # fmt: skip
_MEMOS = ("memo", "", "Cheque no. 1043", "wire, ref “Q3”", "paid\nin two parts", "口座振替", "a,b;c\td", "k")
_CURRENCIES = ("USD",) * 9 + ("EUR",) * 3 + ("GBP", "CAD", "AUD", "JPY")
_MODULES = (OFFLINE,) * 9 + (ORDER,) * 5 + (CARD,) * 2
_STATUSES = (3,) * 9 + (2, 2, 1, 1, 1, 4, 0)
_FUNDING = (2,) * 12 + (3, 1, 0, 2)
_CARDS = ("Visa", "Mastercard", "American Express", "Discover")
_GATEWAYS = ("test", "stripe", "braintree", "authorizenet")
_RAW: tuple[Any, ...] = (None, "", "ch_3Kx7", ["captured", 200], {"result": {"code": "00", "avs": None}})
_GROUPS = ("", "Wholesale", "Distributors, EU", "VIP")
_CHANNELS = (
    ("Main Street", "storefront", "bigcommerce"), ("Großhandel", "storefront", "bigcommerce"),
    ("Trade, Next.js", "storefront", "next"), ("Point of sale", "pos", "square"),
)  # fmt: skip


def created_times(seed: int, count: int) -> array[int]:
    """Draw `count` creation times (epoch seconds, ascending, over two years; about 2 % share a second)."""
    draw = random.Random(f"times {seed}")
    step = max(2.0, _YEARS / max(count, 1))
    at = FIRST_CREATED
    run = 1
    times = array("q")
    for chance in (draw.random() for _ in range(count)):
        if times and run < 3 and chance < 0.02:
            run += 1
        else:
            # The same random number gives the gap: between one second and about two mean steps.
            at += 1 + int(chance * (2 * step - 1))
            run = 1
        times.append(at)
    return times


def money(currency: str, ten_thousandths: int) -> dict[str, str]:
    """Write an amount as the service does: `{"code": "USD", "value": "30.0000"}`."""
    return {"code": currency, "value": f"{ten_thousandths // 10_000}.{ten_thousandths % 10_000:04d}"}


def operations(module: str, processing_status: int, applied_status: int) -> list[int]:
    """Return the codes of the operations that a payment in this state allows."""
    if processing_status == 0:
        return []
    change = 1 if applied_status else 0
    return [change, 2] if module == ORDER else [change]


def company_name(customer_id: str) -> str:
    """Return the name of the company with this id, empty if the sandbox does not know it."""
    if not customer_id.isdecimal():
        return ""
    number, rest = divmod(int(customer_id) - 95_000, 75)
    return _COMPANIES[number % len(_COMPANIES)] if rest == 0 and 0 <= number < 64 else ""


class Rows:
    """The payments generated from a seed, by id."""

    def __init__(self, seed: int, channels: Sequence[int]) -> None:
        self.channels: tuple[int, ...] = tuple(channels)
        self._key = b"%d" % seed
        self._names = {channel: _channel_name(number) for number, channel in enumerate(self.channels)}

    def _draw(self, payment_id: int) -> bytes:
        # 40 independent bytes; each field below uses its own.
        return blake2b(b"%d" % payment_id, digest_size=40, key=self._key).digest()

    def _channel_of(self, draw: bytes) -> int:
        return self.channels[(draw[0] << 8 | draw[1]) % len(self.channels)]

    def channel(self, payment_id: int) -> int:
        """Return the BigCommerce channel id of a payment."""
        return self._channel_of(self._draw(payment_id))

    def channel_name(self, channel_id: int) -> str:
        """Return the name of a channel."""
        return self._names[channel_id]

    def payment(self, payment_id: int, created: int, *, single_storefront: bool = False) -> dict[str, Any]:
        """Generate a payment in the service's JSON form; `created` is in epoch seconds."""
        draw = self._draw(payment_id)
        module = _MODULES[draw[2] & 15]
        status = _STATUSES[draw[3] & 15]
        applied = 1 if status == 3 and draw[3] & 128 else 0
        currency = _CURRENCIES[draw[4] & 15]
        customer = str(95_000 + 75 * (draw[5] & 63))
        # Small numbers have four decimals, large ones two.
        scale = 100 if draw[6] & 192 else 1
        amounts = [(draw[8 + 2 * line] << 8 | draw[9 + 2 * line]) * scale for line in range(1 + draw[6] % 3)]
        row: dict[str, Any] = {
            "id": payment_id,
            "createdAt": created,
            "updatedAt": created + (draw[14] << 8 | draw[15]) * (draw[16] % 3),
            "storeHash": STORE_HASH,
            "customerId": customer,
            "externalId": (None, "", f"ERP-{payment_id}", f"{draw[17]:03d}/{payment_id}")[draw[17] & 3],
            "externalCustomerId": (None, "", f"C{customer}", f"DEB-{draw[5] & 7}")[draw[18] & 3],
            "payerName": _PEOPLE[draw[19] & 7],
            "payerCustomerId": customer if draw[20] & 3 else str(draw[20] + 4_000),
            "details": {"memo": _MEMOS[draw[21] & 7]} if draw[21] & 56 else {},
            "moduleName": module,
            "fees": _fees(draw) if module == CARD else [],
            "moduleData": _module_data(module, payment_id, draw),
            "processingStatus": status,
            "appliedStatus": applied,
            "fundingStatus": _FUNDING[draw[22] & 15],
            "total": money(currency, sum(amounts)),
            "lineItems": [
                {
                    "paymentId": payment_id,
                    "invoiceId": (invoice := payment_id + draw[7] % 5 + 7 * line),
                    "invoiceNumber": f"INV-{invoice:06d}",
                    "amount": money(currency, amount),
                }
                for line, amount in enumerate(amounts)
            ],
            "customerName": _COMPANIES[(draw[5] & 63) % len(_COMPANIES)],
            "allowedOperations": operations(module, status, applied),
            "allowedStatuses": _allowed_statuses(module, as_strings=bool(draw[23] & 1)),
            "channelId": str(channel := self._channel_of(draw)),
            "channelName": self._names[channel],
            "bcId": 700 + draw[24],
            "bcGroupName": _GROUPS[draw[25] & 3],
            "customerBcId": None if draw[26] & 7 == 0 else draw[26],
        }
        if draw[17] % 16 == 0:
            del row["externalId"]
        if single_storefront and draw[27] % 8 == 0:
            del row["channelId"], row["channelName"]
        return row

    def sparse(self, row: dict[str, Any]) -> dict[str, Any]:
        """Remove from some rows the fields that lists may leave out."""
        draw = self._draw(row["id"])
        absent = {
            name
            for bit, name in enumerate(
                ("fees", "details", "moduleData", "allowedOperations", "allowedStatuses")
            )
            if draw[28] & draw[29] & 1 << bit
        }
        row = {name: value for name, value in row.items() if name not in absent}
        if draw[30] % 8 == 0:
            row["lineItems"] = [
                {name: value for name, value in line.items() if name != "amount"} for line in row["lineItems"]
            ]
        return row

    def channel_list(self) -> list[dict[str, Any]]:
        """Return the store's channels in the service's JSON form."""
        return [self._channel(number) for number in range(len(self.channels))]

    def _channel(self, number: int) -> dict[str, Any]:
        _, kind, platform = _CHANNELS[number % len(_CHANNELS)]
        since = FIRST_CREATED - 86_400 * (30 - number % 30)
        return {
            "id": 40_000 + number,
            "channelId": self.channels[number],
            "name": _channel_name(number),
            "type": kind,
            "platform": platform,
            "status": "active" if number % 5 < 4 else "inactive",
            "site": {"id": 1_000 + number, "url": f"https://store-{number}.example.com"}
            if number % 3
            else None,
            "isVisible": number % 4 != 3,
            "isEnabled": True,
            "b2bEnabled": number % 4 != 3,
            "allowGlobalLogins": number % 2 == 0,
            "iconUrl": "",
            "createdAt": str(since),
            "updatedAt": str(since + 3_600 * number),
        }


def _channel_name(number: int) -> str:
    again, kind = divmod(number, len(_CHANNELS))
    name = _CHANNELS[kind][0]
    return f"{name} {again + 1}" if again else name


def _fees(draw: bytes) -> list[dict[str, Any]]:
    fee = {"type": "convenience", "description": "Card fee, 2.5 %", "amount": draw[31] / 4}
    return [fee] if draw[32] & 1 else [fee, {"type": "fixed", "description": "", "amount": draw[32]}]


def _allowed_statuses(module: str, *, as_strings: bool) -> list[int] | list[str]:
    statuses = {OFFLINE: [1, 2, 3, 4], CARD: [3, 4], ORDER: []}[module]
    return [str(status) for status in statuses] if as_strings else statuses


def _module_data(module: str, payment_id: int, draw: bytes) -> dict[str, Any]:
    raw = _RAW[draw[33] % 5]
    if module == OFFLINE:
        return {
            "transactions": [
                {"memo": _MEMOS[draw[34] & 7], "type": "OfflineTransaction", "rawTransaction": raw}
            ]
        }
    if module == ORDER:
        cart = draw[:16].hex()
        return {
            "cartId": f"{cart[:8]}-{cart[8:12]}-4{cart[13:16]}-a{cart[17:20]}-{cart[20:]}",
            "orderId": 100 + payment_id,
            "transactions": [{"type": "UnknownTransaction", "rawTransaction": raw}],
        }
    return {
        "transactions": [
            {
                "type": "CreditCardTransaction",
                "gateway": _GATEWAYS[draw[35] & 3],
                "transactionId": str(520_000 + payment_id),
                "authCode": (None, "", "A1B2C3")[draw[36] % 3],
                "event": "capture",
                "card": {
                    "type": _CARDS[draw[37] & 3],
                    "last4": f"{draw[38] * 39:04d}",
                    "expiryYear": 2030 + draw[39] % 20,
                    "expiryMonth": 1 + draw[39] % 12,
                },
                "rawTransaction": raw,
            }
        ]
    }


_EMPTY = ("details", "moduleData", "fees", "lineItems", "allowedOperations", "allowedStatuses")


def format_id(rules: Rules) -> Callable[[Any], int | float | str]:
    """Return the function that formats an id as the rules say."""
    kinds: dict[str, Callable[[Any], int | float | str]] = {"number": int, "fraction": float, "string": str}
    return kinds[rules.ids_as]


def format_payment(row: dict[str, Any], rules: Rules) -> dict[str, Any]:
    """Format a payment as the rules say. Returns a new row."""
    row = dict(row)
    if rules.ids_as != "number":
        spelled = format_id(rules)
        row["id"] = spelled(row["id"])
        row["lineItems"] = [
            line | {name: spelled(line[name]) for name in ("paymentId", "invoiceId")}
            for line in row["lineItems"]
        ]
        if row.get("channelId") is not None:
            row["channelId"] = spelled(row["channelId"])
    if rules.payment_channels == "absent":
        row.pop("channelId", None)
        row.pop("channelName", None)
    elif rules.payment_channels != "digits":
        row["channelId"] = row["channelName"] = None if rules.payment_channels == "null" else ""
    if rules.fees_as == "numbers" and "fees" in row:
        row["fees"] = [fee["amount"] if isinstance(fee, dict) else fee for fee in row["fees"]]
    if rules.empties_as == "swapped":
        row |= {name: {} if row[name] == [] else [] for name in _EMPTY if row.get(name) in ([], {})}
    return row


def format_channel(channel: dict[str, Any], rules: Rules) -> dict[str, Any]:
    """Format a channel as the rules say; the input has times as digits, and its site as an object."""
    channel = {rules.channel_name if name == "name" else name: value for name, value in channel.items()}
    for name in ("createdAt", "updatedAt"):
        seconds = int(channel[name])
        if rules.channel_times_as == "iso":
            channel[name] = datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
        elif rules.channel_times_as == "number":
            channel[name] = seconds
    if rules.site_as == "text" and channel["site"] is not None:
        channel["site"] = channel["site"]["url"]
    return channel
