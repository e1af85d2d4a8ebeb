"""The endpoints: apply a request to the store and return the answer. No I/O."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from b2b_payments._printable import frozen
from b2b_payments.sandbox._answer import Answer
from b2b_payments.sandbox._data import OFFLINE, operations
from b2b_payments.sandbox._listing import InvalidFieldsError, Listing, ListQuery, Pairs
from b2b_payments.sandbox._offline import read_offline_payment, whole_number
from b2b_payments.sandbox._rules import Rules
from b2b_payments.sandbox._store import Store
from b2b_payments.sandbox._table import Row

ROOT: Final = "/api/v3/io"
NO_JSON: Final = object()
"""Represents a body that is not JSON."""

_APPLY, _REVERT = 0, 1
_UPPER = re.compile("[A-Z]")


@frozen
class Call:
    """The arguments of an endpoint. `id` is the id in the path, or 0 if there is none."""

    store: Store
    method: Any
    query: Pairs
    body: Any
    id: int

    def integer(self, name: str, least: int, most: int) -> int:
        """Return a whole number from the body. Raises `InvalidFieldsError`."""
        value = whole_number(self.body.get(name), least, most) if isinstance(self.body, dict) else None
        if value is None:
            raise InvalidFieldsError({name: [f"Must be an integer from {least} to {most}."]})
        return value

    def success(self, data: Any, **meta: Any) -> Answer:
        """Return a success as the rules define it for this method, with more fields of its `meta`."""
        rules = self.store.rules
        by_method = rules.success_status
        status = by_method.get(self.method, 200) if isinstance(by_method, Mapping) else by_method
        if status == 204 or self.method in rules.without_body:
            return Answer(status, b"")
        code = status if rules.success_code is None else rules.success_code
        return Answer.json(status, {"code": code, "data": data, "meta": {"message": "SUCCESS", **meta}})

    def offline_payment(self) -> Row:
        """Return the fields of an offline payment from the body. Raises `InvalidFieldsError`."""
        nested = self.store.rules.field_errors == "nested"
        return read_offline_payment(self.body, self.store.channels, line_by_line=nested)


def answer(store: Store, method: str, path: str, query: Pairs, body: Any) -> Answer:
    """Carry out a request. `path` is decoded; `body` is None, decoded JSON, or `NO_JSON`."""
    for known_method, pattern, endpoint, needs_payment in _ENDPOINTS:
        if method == known_method and (found := pattern.fullmatch(path)) is not None:
            path_id = int(found[1]) if pattern.groups else 0
            if body is NO_JSON:
                return Answer.error(400, "The body is not valid JSON.")
            if needs_payment and (path_id not in store or store.is_hidden(path_id)):
                return Answer.error(404, "Payment not found")
            try:
                return endpoint(Call(store, method, query, body, path_id))
            except InvalidFieldsError as error:
                return _invalid(error, store.rules)
    return Answer.gateway(404)


def is_list(method: str, path: str) -> bool:
    """Whether a request is for the list of payments."""
    return method == "GET" and path == f"{ROOT}/ip/payments"


def _invalid(error: InvalidFieldsError, rules: Rules) -> Answer:
    errors = _in_snake_case(error.errors) if rules.field_errors == "nested" else error.errors
    status = rules.field_errors_status
    return Answer.json(status, {"code": status, "data": errors, "meta": {"message": "Validation Error"}})


def _in_snake_case(errors: Any) -> Any:
    if isinstance(errors, Mapping):
        return {_UPPER.sub(r"_\g<0>", name).lower(): _in_snake_case(texts) for name, texts in errors.items()}
    return list(map(_in_snake_case, errors)) if isinstance(errors, list) else errors


def _list(call: Call) -> Answer:
    store, rules = call.store, call.store.rules
    pairs = [(name, value) for name, value in call.query if name.removesuffix("[]") not in rules.ignores]
    query = ListQuery.parse(pairs, rules.channel_encoding)
    query = attrs.evolve(query, by_words=rules.search == "words", by_parts=rules.search == "parts")
    if "orderBy" in rules.ignores:
        query = attrs.evolve(query, ascending=rules.ignored_order == "ASC")
    elif not any(name == "orderBy" and value for name, value in pairs):
        query = attrs.evolve(query, ascending=rules.default_order == "ASC")
    selected = _with_channels(store, query, pairs)
    if isinstance(selected, Answer):
        return selected
    query = selected
    if query.limit > rules.max_limit and rules.over_limit == "refuse":
        return Answer.error(413, f"limit must not be more than {rules.max_limit}")
    window, end = rules.paging_window, query.offset + min(query.limit, rules.max_limit)
    if rules.beyond_window is not None and window is not None and end > window:
        return Answer.error(rules.beyond_window, f"offset + limit must not be more than {window}")
    page = store.page(query)
    rows = [store.encoded(payment_id) for payment_id in page.ids]
    return call.success(rows, pagination=_pagination(rules, query.offset, page))


def _with_channels(store: Store, query: ListQuery, pairs: Pairs) -> ListQuery | Answer:
    """Return the query with the channels that the rules give it, or a refusal."""
    rules, is_written = store.rules, any(name.startswith("channelIds") and value for name, value in pairs)
    channels = query.channel_ids
    if channels is None and is_written:
        if rules.other_channel_encodings == 422:
            raise InvalidFieldsError({"channelIds": ["Not a valid list."]})
        if rules.other_channel_encodings == 400:
            return Answer.error(400, "A parameter is not valid.", "Parameter Error")
        channels = frozenset() if rules.other_channel_encodings == "nothing" else None
    if channels is None and rules.default_channels is not None:
        channels = frozenset(rules.default_channels)
    if rules.unknown_channels != "nothing" and not {*(channels or ())} <= {*store.channels}:
        return Answer.error(rules.unknown_channels, "There is no such channel.", "Parameter Error")
    return attrs.evolve(query, channel_ids=channels)


def _pagination(rules: Rules, offset: int, page: Listing) -> dict[str, int]:
    pagination = {"totalCount": page.total, "offset": offset, "limit": page.limit}
    if rules.total_count == "absent":
        del pagination["totalCount"]
    if rules.echo == "asked":
        pagination["limit"] = page.asked
    elif rules.echo is None:
        del pagination["limit"]
    if rules.echo_offset == "zero":
        pagination["offset"] = 0
    elif rules.echo_offset == "clamped":
        pagination["offset"] = min(offset, page.total)
    elif rules.echo_offset is None:
        del pagination["offset"]
    return pagination


def _get(call: Call) -> Answer:
    return call.success(call.store.wire(call.id))


def _delete(call: Call) -> Answer:
    call.store.delete(call.id)
    return _written(call, "id")


def _operations(call: Call) -> Answer:
    row = call.store.wire(call.id)
    return call.success({name: row[name] for name in ("allowedOperations", "allowedStatuses")})


def _perform_operation(call: Call) -> Answer:
    code = call.integer("operationCode", 0, 3)
    row = call.store.wire(call.id)
    if code not in map(int, row["allowedOperations"]):
        # A 400 with this title has been seen.
        return Answer.error(400, f"Operation {code} is not allowed for this payment", "Not Found Error")
    applied: int = row["appliedStatus"]
    if code in {_APPLY, _REVERT}:
        applied = 1 if code == _APPLY else 0
    allowed = operations(row["moduleName"], row["processingStatus"], applied)
    call.store.update(call.id, appliedStatus=applied, allowedOperations=allowed)
    return _written(call, "id")


def _set_processing_status(call: Call) -> Answer:
    status = call.integer("processingStatus", 0, 4)
    row = call.store.wire(call.id)
    if status not in map(int, row["allowedStatuses"]):
        return Answer.error(
            400, f"Processing status {status} is not allowed for this payment", "Not Found Error"
        )
    allowed = operations(row["moduleName"], status, row["appliedStatus"])
    call.store.update(call.id, processingStatus=status, allowedOperations=allowed)
    return _written(call, "id")


def _written(call: Call, name: str) -> Answer:
    """Return the answer to a successful write."""
    store = call.store
    ids = {"right": call.id, "wrong": call.id + 1}
    written = ids.get(store.rules.written_ids)
    return call.success({} if written is None else {name: store.spelled_id(written)})


def _transactions(call: Call) -> Answer:
    return call.success((call.store.wire(call.id)["moduleData"] or {}).get("transactions", []))


def _create_offline(call: Call) -> Answer:
    store = call.store
    fields = call.offline_payment()
    fields |= _of_channel(store, call.body.get("channelId", store.channels[0]))
    # A client may recognize the payment that it sent by this time, with the help of the `Date` of answers.
    created = store.clock + 1 if store.rules.date_header else max(store.clock + 1, int(time.time()))
    return call.success({"paymentId": store.spelled_id(store.insert(created_at=created, **fields))})


def _update_offline(call: Call) -> Answer:
    store = call.store
    row = store.wire(call.id)
    if row["moduleName"] != OFFLINE:
        return Answer.error(400, "Only offline payments can be updated", "Not Found Error")
    fields = call.offline_payment()
    applied = row["appliedStatus"]
    fields["lineItems"] = [{"paymentId": call.id, **line} for line in fields["lineItems"]]
    fields["appliedStatus"] = applied
    fields["allowedOperations"] = operations(OFFLINE, fields["processingStatus"], applied)
    if "channelId" in call.body:
        fields |= _of_channel(store, call.body["channelId"])
    store.update(call.id, **fields)
    return _written(call, "paymentId")


def _of_channel(store: Store, channel: int) -> Row:
    return {"channelId": str(channel), "channelName": store.channel_name(channel)}


def _channels(call: Call) -> Answer:
    return _single_storefront(call.store.rules) or call.success(call.store.channel_list())


def _channel(call: Call) -> Answer:
    if (refusal := _single_storefront(call.store.rules)) is not None:
        return refusal
    for channel in call.store.channel_list():
        if channel["channelId"] == call.id:
            return call.success(channel)
    return Answer.error(404, "Channel not found")


def _single_storefront(rules: Rules) -> Answer | None:
    if rules.multi_storefront:
        return None
    text = "Multi storefront is not enabled"
    if rules.single_storefront_status == 403:
        return Answer.denied(403, text)
    return Answer.error(422, text)


def _endpoint(
    method: str, path: str, endpoint: Callable[[Call], Answer]
) -> tuple[str, re.Pattern[str], Callable[[Call], Answer], bool]:
    pattern = re.compile(re.sub(r"\{\w+\}", "([0-9]{1,18})", ROOT + path))
    return method, pattern, endpoint, "/ip/payments/" in path and "{" in path


_ENDPOINTS: Final = (
    _endpoint("GET", "/ip/payments", _list),
    _endpoint("GET", "/ip/payments/{id}", _get),
    _endpoint("DELETE", "/ip/payments/{id}", _delete),
    _endpoint("GET", "/ip/payments/{id}/operations", _operations),
    _endpoint("POST", "/ip/payments/{id}/operations", _perform_operation),
    _endpoint("PUT", "/ip/payments/{id}/processing-status", _set_processing_status),
    _endpoint("GET", "/ip/payments/{id}/transactions", _transactions),
    _endpoint("POST", "/ip/payments/offline", _create_offline),
    _endpoint("PUT", "/ip/payments/offline/{id}", _update_offline),
    _endpoint("GET", "/channels", _channels),
    _endpoint("GET", "/channels/{channelId}", _channel),
)
