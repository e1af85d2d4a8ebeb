"""What a refusal says field by field, however it nests."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2b_payments._protocol.answer import read_field_errors


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
def test_fields_are_read_by_their_paths(data: Any, expected: dict[str, list[str]]) -> None:
    """Objects and lists lead to the message; a list's own texts belong to the field that holds it."""
    assert read_field_errors(data) == expected


def test_what_is_nested_too_deeply_is_json() -> None:
    """Beyond eight levels the rest is given as the service's JSON, in one line that ends."""
    data: Any = ["No."]
    for _ in range(60):
        data = {"a": data}
    rest = '{"a":' * 52 + '["No."]' + "}" * 52
    assert read_field_errors(data) == {".".join("a" * 8): [rest]}


def test_an_endless_answer_ends() -> None:
    """A hundred messages are kept, none of more than 500 characters, with paths of 200 at most."""
    errors = read_field_errors({f"{number}{'x' * 999}": ["y" * 9_999] for number in range(500)})
    assert len(errors) == 100
    assert all(len(path) == 200 and list(map(len, texts)) == [500] for path, texts in errors.items())


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@pytest.mark.slow
@given(_json)
def test_no_data_raises(data: Any) -> None:
    """Whatever the data is, what comes out is texts by path, none of them empty."""
    errors = read_field_errors(data)
    assert all(path and texts and all(texts) for path, texts in errors.items())
