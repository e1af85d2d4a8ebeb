"""The shapes that payments and channels come in, as the rules say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from b2b_payments.sandbox._rules import Rules

_EMPTY = ("details", "moduleData", "fees", "lineItems", "allowedOperations", "allowedStatuses")


def spelled_payment(row: dict[str, Any], rules: Rules) -> dict[str, Any]:
    """Spell a payment; the row given is not changed."""
    row = dict(row)
    if rules.ids_as == "string":
        row["id"] = str(row["id"])
        row["lineItems"] = [
            line | {"paymentId": str(line["paymentId"]), "invoiceId": str(line["invoiceId"])}
            for line in row["lineItems"]
        ]
    if rules.fees_as == "numbers" and "fees" in row:
        row["fees"] = [fee["amount"] if isinstance(fee, dict) else fee for fee in row["fees"]]
    if rules.empties_as == "swapped":
        row |= {name: {} if row[name] == [] else [] for name in _EMPTY if row.get(name) in ([], {})}
    return row


def spelled_channel(channel: dict[str, Any], rules: Rules) -> dict[str, Any]:
    """Spell a channel, whose times come as digits, its site as an object."""
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
