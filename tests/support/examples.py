"""The vendor's example payloads, whole: what the document cuts off is completed from the service's notes."""

from __future__ import annotations

from typing import Any

LISTED_PAYMENT: dict[str, Any] = {
    "id": 70,
    "createdAt": 1618800393,
    "updatedAt": 1618803026,
    "storeHash": "jexy81vb0h",
    "customerId": "95075",
    "externalId": None,
    "externalCustomerId": None,
    "payerName": "Store offline payment",
    "payerCustomerId": "95075",
    "details": {"memo": "memo"},
    "moduleName": "payments_offline",
    "fees": [],
    "moduleData": {"transactions": [{"memo": "k", "type": "OfflineTransaction", "rawTransaction": None}]},
    "processingStatus": 3,
    "appliedStatus": 1,
    "fundingStatus": 2,
    "total": {"code": "USD", "value": "30.0000"},
    "lineItems": [
        {
            "paymentId": 70,
            "invoiceId": 2342,
            "invoiceNumber": "03002",
            "amount": {"code": "USD", "value": "30.0000"},
        }
    ],
    "customerName": "",
    "allowedOperations": [1],
    "allowedStatuses": ["1", "2", "3", "4"],
    "channelId": "1",
    "channelName": "Main storefront",
    "bcId": "32",
    "bcGroupName": "Wholesale",
    "customerBcId": "1417",
}

SHOWN_PAYMENT: dict[str, Any] = {
    "id": 20,
    "createdAt": 1617761431,
    "updatedAt": 1617762957,
    "storeHash": "jexy81vb0h",
    "customerId": "95075",
    "externalId": None,
    "externalCustomerId": None,
    "payerName": "Hannah Admin",
    "payerCustomerId": "95075",
    "details": {"memo": "memo"},
    "moduleName": "payments_bigcommerce_sales_order",
    "fees": [{"type": "surcharge", "description": "Card surcharge", "amount": 1.5}],
    "moduleData": {
        "cartId": "d0afeab8-ff76-4b4e-867a-0675c0ea6e6e",
        "orderId": 121,
        "transactions": [{"type": "UnknownTransaction", "rawTransaction": None}],
    },
    "processingStatus": 0,
    "appliedStatus": 0,
    "fundingStatus": 0,
    "total": {"code": "EUR", "value": "0.00000000"},
    "lineItems": [{"paymentId": 20, "invoiceId": 117, "invoiceNumber": "00117"}],
    "customerName": 'Zürich & Söhne, "Import"',
    "allowedOperations": [0, 2],
    "allowedStatuses": [1, 2, 3, 4],
}

TRANSACTIONS: list[dict[str, Any]] = [
    {
        "type": "CreditCardTransaction",
        "gateway": "test",
        "transactionId": "521263",
        "authCode": "",
        "event": "capture",
        "card": {"type": "Visa", "last4": "1111", "expiryYear": 2050, "expiryMonth": 12},
        "rawTransaction": "",
    }
]

OPERATIONS: dict[str, Any] = {"allowedOperations": [], "allowedStatuses": ["1", "2", "3", "4"]}

CHANNELS: list[dict[str, Any]] = [
    {
        "id": 12,
        "channelId": 1,
        "name": "Main storefront",
        "type": "storefront",
        "platform": "bigcommerce",
        "status": "active",
        "site": {"id": 1000, "url": "https://store.example"},
        "isVisible": True,
        "isEnabled": True,
        "b2bEnabled": True,
        "allowGlobalLogins": False,
        "iconUrl": None,
        "createdAt": "1618800393",
        "updatedAt": "1618803026",
    }
]

CREATE_OFFLINE_BODY: dict[str, Any] = {
    "lineItems": [{"invoiceId": 13, "amount": "20.00"}],
    "currency": "USD",
    "details": {"memo": "Test"},
    "customerId": "113",
    "payerName": "Store offline payment",
    "payerCustomerId": "113",
    "processingStatus": 3,
    "fundingStatus": 2,
}
"""The vendor sends `fundingStatus` as ``"2"`` when creating, as 2 when updating; a number is documented."""

UPDATE_OFFLINE_BODY: dict[str, Any] = CREATE_OFFLINE_BODY

DELETED: dict[str, Any] = {"code": 200, "data": {"id": 1}, "meta": {"message": "SUCCESS"}}
PERFORMED: dict[str, Any] = {"code": 200, "data": {"id": 4}, "meta": {"message": "SUCCESS"}}
STATUS_UPDATED: dict[str, Any] = {"code": 200, "data": {"id": 2}, "meta": {"message": "SUCCESS"}}
OFFLINE_RECORDED: dict[str, Any] = {"code": 200, "data": {"paymentId": 112}, "meta": {"message": "SUCCESS"}}


def listed(
    *payments: dict[str, Any], offset: int = 0, limit: int = 10, total: int | None = None
) -> dict[str, Any]:
    """Return a whole answer of the list with these payments."""
    count = len(payments) if total is None else total
    pagination = {"totalCount": count, "offset": offset, "limit": limit}
    return {"code": 200, "data": list(payments), "meta": {"message": "SUCCESS", "pagination": pagination}}


def answered(data: Any) -> dict[str, Any]:
    """Return a whole successful answer around `data`."""
    return {"code": 200, "data": data, "meta": {"message": "SUCCESS"}}
