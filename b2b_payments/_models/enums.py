"""The service's enumerated values."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias


class ProcessingStatus(IntEnum):
    """The processing status of a payment [doc]. Zero is a real value."""

    INCOMPLETE = 0
    AWAITING_PROCESSING = 1
    PROCESSING = 2
    COMPLETED = 3
    REFUNDED = 4


class Operation(IntEnum):
    """An operation on a payment [doc]. The service also accepts a code 3, which is undocumented."""

    APPLY_TO_INVOICES = 0
    REVERT_FROM_INVOICES = 1
    PULL_FROM_ORDER = 2


if TYPE_CHECKING:
    StatusCode: TypeAlias = ProcessingStatus | int
    OperationCode: TypeAlias = Operation | int
else:
    # msgspec supports no union of an enum and int: with Any it accepts every value.
    StatusCode = Annotated[Any, ProcessingStatus]
    OperationCode = Annotated[Any, Operation]


class SortBy(StrEnum):
    """The fields that a list of payments can be sorted by [doc]. `id` is not one of them."""

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
    """The direction in which a list is sorted [doc]."""

    ASC = "ASC"
    DESC = "DESC"


class SearchBy(StrEnum):
    """The field in which the keywords `q` are searched for [doc]. Without one, the service searches all."""

    ID = "id"
    CUSTOMER_ID = "customerId"
    EXTERNAL_ID = "externalId"
    EXTERNAL_CUSTOMER_ID = "externalCustomerId"
