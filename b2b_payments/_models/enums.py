"""The service's fixed words and codes."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias


class ProcessingStatus(IntEnum):
    """How far a payment is processed [doc]. Zero is a real value."""

    INCOMPLETE = 0
    AWAITING_PROCESSING = 1
    PROCESSING = 2
    COMPLETED = 3
    REFUNDED = 4


class Operation(IntEnum):
    """What can be done with a payment [doc]. The service also takes a code 3, which nobody documents."""

    APPLY_TO_INVOICES = 0
    REVERT_FROM_INVOICES = 1
    PULL_FROM_ORDER = 2


if TYPE_CHECKING:
    StatusCode: TypeAlias = ProcessingStatus | int
    OperationCode: TypeAlias = Operation | int
else:
    # msgspec has no union of an enum and int: it takes what is there.
    StatusCode = Annotated[Any, ProcessingStatus]
    OperationCode = Annotated[Any, Operation]


class SortBy(StrEnum):
    """What a list of payments can be sorted by [doc]. There is no `id` among them."""

    MODULE_NAME = "moduleName"
    PROCESSING_STATUS = "processingStatus"
    APPLIED_STATUS = "appliedStatus"
    CREATED_AT = "createdAt"
    CUSTOMER_ID = "customerId"
    EXTERNAL_CUSTOMER_ID = "externalCustomerId"
    FUNDING_STATUS = "fundingStatus"
    UPDATED_AT = "updatedAt"
    TOTAL_AMOUNT = "totalAmount"


class OrderBy(StrEnum):
    """Which way a list is sorted [doc]."""

    ASC = "ASC"
    DESC = "DESC"


class SearchBy(StrEnum):
    """Which field the keywords `q` are looked for in [doc]. Without one, the service looks in all of them."""

    ID = "id"
    CUSTOMER_ID = "customerId"
    EXTERNAL_ID = "externalId"
    EXTERNAL_CUSTOMER_ID = "externalCustomerId"
