"""The field errors of a refusal, in every nesting."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2b_payments._protocol.answer import Answer, read_field_errors

field_errors = partial(read_field_errors, redacted=Answer(400, {}, b"").redacted)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"currency": ["Bad."]}, {"currency": ["Bad."]}),
        ({"currency": "Bad."}, {"currency": ["Bad."]}),
        ({"line_items": [{}, {"invoice_id": ["No."]}]}, {"line_items[1].invoice_id": ["No."]}),
        ({"line_items": {"1": {"invoice_id": ["No."]}}}, {"line_items.1.invoice_id": ["No."]}),
        (
            {"line_items": ["Too few.", {"a": "No."}]},
            {"line_items": ["Too few."], "line_items[1].a": ["No."]},
        ),
        ([{"a": "No."}, ["x"]], {"[0].a": ["No."], "[1]": ["x"]}),
        ({"tags": [["one"], [], ["two"]]}, {"tags[0]": ["one"], "tags[2]": ["two"]}),
        ({"a": [1, True, None, Decimal("1.50"), ""]}, {"a": ["1", "true", "1.50"]}),
        ({"a": None, "b": {}, "c": [], "d": " "}, {}),
        ({"a": "two\n  lines"}, {"a": ["two lines"]}),
        ({"errMsg": "In the message.", "a": {"errMsg": "No."}}, {"a.errMsg": ["No."]}),
        ({"errMsg": {"line_items": [{"amount": ["No."]}]}}, {"line_items[0].amount": ["No."]}),
        ({"": ["No."], "a": {" ": False}}, {'""': ["No."], 'a." "': ["false"]}),
        (["Bad."], {}),
        ("Bad.", {}),
        (None, {}),
        (7, {}),
    ],
)
def test_fields_are_named_by_path(data: Any, expected: dict[str, list[str]]) -> None:
    """Objects and lists lead to the message; texts in a list belong to the field that holds it."""
    assert field_errors(data) == expected


def test_deep_nesting_is_shown_as_json() -> None:
    """Values more than eight levels deep are returned as JSON, on one line of limited length."""
    data: Any = ["No."]
    for _ in range(60):
        data = {"a": data}
    rest = '{"a":' * 52 + '["No."]' + "}" * 52
    assert field_errors(data) == {".".join("a" * 8): [rest]}


def test_number_and_length_of_messages_are_limited() -> None:
    """At most 100 messages of 500 characters, with paths of 200 characters, are kept."""
    errors = field_errors({f"{number}{'x' * 999}": ["y" * 9_999] for number in range(500)})
    assert len(errors) == 100
    assert all(len(path) == 200 and list(map(len, texts)) == [500] for path, texts in errors.items())


def test_number_of_values_is_limited() -> None:
    """After ten thousand values, even empty ones, no more are searched for messages."""
    assert field_errors({"a": [None] * 9_000, "b": ["No."]}) == {"b": ["No."]}
    assert field_errors({"a": [None] * 10_000, "b": ["No."]}) == {}


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@pytest.mark.slow
@given(_json)
def test_any_data_yields_texts(data: Any) -> None:
    """Any data results in texts by path, none of them empty."""
    errors = field_errors(data)
    assert all(path and texts and all(texts) for path, texts in errors.items())
