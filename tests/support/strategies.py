"""What the service might send: payments of every known shape, for property tests."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

REQUIRED = (
    "id",
    "createdAt",
    "updatedAt",
    "customerId",
    "total",
    "processingStatus",
    "appliedStatus",
    "fundingStatus",
)

numbers = st.integers(min_value=0, max_value=2**53)
ids = numbers | numbers.map(str)
texts = st.text(max_size=12)
optional_texts = st.none() | texts
moments = st.integers(min_value=-(10**9), max_value=10**11)
floats = st.floats(allow_nan=False, allow_infinity=False)
fee_floats = st.floats(min_value=-1e12, max_value=1e12).map(lambda amount: round(amount, 6))
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
unknown_fields = st.dictionaries(texts.map("x{}".format), json_values, max_size=2)
currencies = st.sampled_from(["USD", "EUR", "JPY", "gbp", ""])
amounts = st.decimals(
    min_value=-(10**12), max_value=10**12, allow_nan=False, allow_infinity=False, places=4
).map("{:f}".format) | st.sampled_from(["0.00000000", "30.0000", "0", "-0.00", "007.50", "1E+3", ".5", "+2"])
codes = st.integers(min_value=0, max_value=9)
code_lists = st.lists(codes | codes.map(str), max_size=4)


def _objects(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    known = st.fixed_dictionaries(required, optional=optional)
    return st.tuples(unknown_fields, known).map(lambda both: {**both[0], **both[1]})


money = _objects({"code": currencies, "value": amounts}, {})
line_items = _objects(
    {},
    {
        "paymentId": ids,
        "invoiceId": ids | st.none(),
        "invoiceNumber": optional_texts,
        "amount": money | st.none(),
    },
)
fees = _objects({}, {"type": texts, "description": optional_texts, "amount": numbers | fee_floats | amounts})
long_numbers = st.decimals(min_value=-(10**9), max_value=10**9, allow_nan=False, places=25)
bare_fees = numbers | fee_floats | amounts | long_numbers
transactions = _objects(
    {"type": texts},
    {
        "memo": optional_texts,
        "gateway": texts,
        "transactionId": texts | numbers,
        "authCode": st.none() | st.just("") | texts,
        "event": texts,
        "card": st.none() | _objects({}, {"type": texts, "last4": texts, "expiryYear": ids}) | json_values,
        "rawTransaction": st.none() | st.just("") | texts | json_values,
    },
)
payments = _objects(
    {
        "id": ids,
        "createdAt": moments,
        "updatedAt": moments | moments.map(str),
        "customerId": texts | numbers,
        "processingStatus": codes | codes.map(str),
        "appliedStatus": codes,
        "fundingStatus": codes,
        "total": money,
    },
    {
        "storeHash": optional_texts,
        "externalId": optional_texts,
        "externalCustomerId": optional_texts | numbers,
        "payerName": optional_texts,
        "payerCustomerId": optional_texts,
        "details": st.none() | st.dictionaries(texts, json_values, max_size=2),
        "moduleName": texts,
        "fees": st.none() | st.lists(fees, max_size=2),
        "moduleData": st.none() | st.fixed_dictionaries({"transactions": st.lists(transactions, max_size=2)}),
        "lineItems": st.none() | st.lists(line_items, max_size=3),
        "customerName": optional_texts,
        "allowedOperations": st.none() | code_lists,
        "allowedStatuses": code_lists,
        "channelId": st.none() | st.just("") | ids,
        "channelName": optional_texts,
    },
)
"""Payments as the service sends them: ids and codes as numbers or text, gaps, nulls, unknown fields."""
