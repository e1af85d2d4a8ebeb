"""The service's objects, field by field: our names, the service's names, and what is required.

Required is what a payment makes no sense without. Everything else may be absent or null [seen].
"""

from __future__ import annotations

from b2b_payments.converter import kinds
from b2b_payments.converter.compiler import compiled
from b2b_payments.converter.kinds import Field, many, one, perhaps_one
from b2b_payments.models import Card, Channel, Fee, LineItem, Money, Payment, PaymentOperations, Transaction

MONEY = compiled(
    Money,
    [
        Field("currency", "code", kinds.TEXT),
        Field("amount", "value", kinds.AMOUNT_IN_TEXT, required=True),
    ],
)

LINE_ITEM = compiled(
    LineItem,
    [
        Field("payment_id", "paymentId", kinds.OPTIONAL_NUMBER),
        Field("invoice_id", "invoiceId", kinds.OPTIONAL_NUMBER),
        Field("invoice_number", "invoiceNumber", kinds.TEXT),
        Field("amount", "amount", perhaps_one(MONEY)),
    ],
)

FEE = compiled(
    Fee,
    [
        Field("type", "type", kinds.TEXT),
        Field("description", "description", kinds.TEXT),
        Field("amount", "amount", kinds.AMOUNT_AS_NUMBER),
    ],
)

OPERATIONS = compiled(
    PaymentOperations,
    [
        Field("allowed_operations", "allowedOperations", kinds.OPERATIONS),
        Field("allowed_statuses", "allowedStatuses", kinds.STATUSES),
    ],
)

PAYMENT = compiled(
    Payment,
    [
        Field("id", "id", kinds.NUMBER, required=True),
        Field("created_at", "createdAt", kinds.MOMENT, required=True),
        Field("updated_at", "updatedAt", kinds.MOMENT, required=True),
        Field("store_hash", "storeHash", kinds.TEXT),
        Field("customer_id", "customerId", kinds.TEXT, required=True),
        Field("external_id", "externalId", kinds.OPTIONAL_TEXT),
        Field("external_customer_id", "externalCustomerId", kinds.OPTIONAL_TEXT),
        Field("payer_name", "payerName", kinds.TEXT),
        Field("payer_customer_id", "payerCustomerId", kinds.TEXT),
        Field("details", "details", kinds.OBJECT),
        Field("module_name", "moduleName", kinds.TEXT),
        Field("fees", "fees", many(FEE)),
        Field("module_data", "moduleData", kinds.NESTED_OBJECT),
        Field("processing_status", "processingStatus", kinds.STATUS, required=True),
        Field("applied_status", "appliedStatus", kinds.NUMBER, required=True),
        Field("funding_status", "fundingStatus", kinds.NUMBER, required=True),
        Field("total", "total", one(MONEY), required=True),
        Field("line_items", "lineItems", many(LINE_ITEM)),
        Field("customer_name", "customerName", kinds.TEXT),
        Field("allowed_operations", "allowedOperations", kinds.OPERATIONS),
        Field("allowed_statuses", "allowedStatuses", kinds.STATUSES),
        Field("channel_id", "channelId", kinds.NUMBER_IN_TEXT),
        Field("channel_name", "channelName", kinds.OPTIONAL_TEXT),
    ],
)

# What a gateway says varies [doc]: an odd field must not hide the rest of a transaction.
CARD = compiled(
    Card,
    [
        Field("type", "type", kinds.OPTIONAL_TEXT, lenient=True),
        Field("last4", "last4", kinds.OPTIONAL_TEXT, lenient=True),
        Field("expiry_year", "expiryYear", kinds.OPTIONAL_NUMBER, lenient=True),
        Field("expiry_month", "expiryMonth", kinds.OPTIONAL_NUMBER, lenient=True),
    ],
)

TRANSACTION = compiled(
    Transaction,
    [
        Field("type", "type", kinds.OPTIONAL_TEXT, lenient=True),
        Field("memo", "memo", kinds.OPTIONAL_TEXT, lenient=True),
        Field("gateway", "gateway", kinds.OPTIONAL_TEXT, lenient=True),
        Field("transaction_id", "transactionId", kinds.OPTIONAL_TEXT, lenient=True),
        Field("auth_code", "authCode", kinds.OPTIONAL_TEXT, lenient=True),
        Field("event", "event", kinds.OPTIONAL_TEXT, lenient=True),
        Field("card", "card", perhaps_one(CARD), lenient=True),
        Field("raw_transaction", "rawTransaction", kinds.ANYTHING),
    ],
)

CHANNEL = compiled(
    Channel,
    [
        Field("id", "id", kinds.NUMBER, required=True),
        Field("channel_id", "channelId", kinds.NUMBER, required=True),
        Field("name", "name", kinds.TEXT),
        Field("type", "type", kinds.TEXT),
        Field("platform", "platform", kinds.TEXT),
        Field("status", "status", kinds.TEXT),
        Field("site", "site", kinds.ANYTHING),
        Field("is_visible", "isVisible", kinds.FLAG),
        Field("is_enabled", "isEnabled", kinds.FLAG),
        Field("b2b_enabled", "b2bEnabled", kinds.FLAG),
        Field("allow_global_logins", "allowGlobalLogins", kinds.FLAG),
        Field("icon_url", "iconUrl", kinds.OPTIONAL_TEXT),
        Field("created_at", "createdAt", kinds.MOMENT_IN_TEXT),
        Field("updated_at", "updatedAt", kinds.MOMENT_IN_TEXT),
    ],
)
