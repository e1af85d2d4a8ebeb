"""The cattrs converter that knows all models, and writes the bodies of requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import partial
from typing import Any, Final, TypeVar

import attrs
from cattrs import Converter
from cattrs.gen import make_dict_unstructure_fn, override

from b2b_payments.converter.kinds import Table
from b2b_payments.converter.structuring import MODELS, structure, to_wire
from b2b_payments.converter.values import spelled
from b2b_payments.models import OfflineLineItem, OfflinePayment
from b2b_payments.models.plain_data import checked_data

T = TypeVar("T")


def _make_converter() -> Converter:
    converter = Converter(detailed_validation=False)
    for model, table in MODELS.items():
        converter.register_structure_hook(model, _hook(table))
        converter.register_unstructure_hook(model, to_wire)
    converter.register_unstructure_hook(Decimal, spelled)
    for request in (OfflineLineItem, OfflinePayment):
        names: dict[str, Any] = {
            field.name: override(rename=_camel_case(field.name)) for field in attrs.fields(request)
        }
        if request is OfflinePayment:
            # The service wants `details` even where there are none [doc].
            names["details"] = override(omit_if_default=False, unstruct_hook=partial(checked_data, "details"))
            names["line_items"] = override(rename="lineItems", unstruct_hook=_each_unstructured(converter))
        unstructure = make_dict_unstructure_fn(request, converter, _cattrs_omit_if_default=True, **names)
        converter.register_unstructure_hook(request, unstructure)
    return converter


def _hook(table: Table[T]) -> Callable[[object, object], T]:
    return lambda raw, _: structure(table, raw, "$")


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def _each_unstructured(converter: Converter) -> Callable[[Iterable[object]], list[Any]]:
    return lambda items: [converter.unstructure(item) for item in items]


service_converter: Final = _make_converter()
"""The cattrs converter that knows all of the models, alone and in collections."""
