"""Text for a terminal."""

from __future__ import annotations

import json
import pickle
from unicodedata import category

import pytest

from b2b_payments import APIError, B2BPaymentsError, NotFoundError, OutcomeUnknownError
from b2b_payments._printable import printable, printable_json, printable_lines

# The first plane, and the tags; without the codes that are not assigned, and those of private use.
CODES = [*range(0x10000), *range(0xE0000, 0xE0080)]
EVERY = "".join(char for char in map(chr, CODES) if category(char) not in {"Cn", "Co"})
STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_terminal_controls_are_escaped() -> None:
    """All characters that control, format or separate lines are escaped; the others are kept."""
    shown = printable(EVERY)
    assert not [char for char in shown if category(char) in STEERING]
    kept = "".join(char for char in EVERY if category(char)[0] in "LMNPSZ" and category(char) not in STEERING)
    assert printable(kept) == kept


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zürich & Söhne, 東京, e\u0301, 1\xa0000 \U0001f600", None),
        ("\x1b]52;c;cm0gLXJm\x07", r"\x1b]52;c;cm0gLXJm\x07"),
        ("\x9b2J\x7f\x00", r"\x9b2J\x7f\x00"),
        ("a\u202eb\u2066c\u200b\ufeff", r"a\u202eb\u2066c\u200b\ufeff"),
        ("a\nb\rc\td\u2028e\u2029", r"a\x0ab\x0dc\x09d\u2028e\u2029"),
        ("\ud800\U000e0041", r"\ud800\U000e0041"),
    ],
)
def test_examples(text: str, shown: str | None) -> None:
    """Escape sequences, direction marks and line breaks become visible; other text is unchanged."""
    assert printable(text) == (text if shown is None else shown)
    assert printable_lines("a\nb\tc\r") == "a\nb\tc\\x0d"


def test_escaped_json_is_equal() -> None:
    """JSON has such characters as its own escapes, and still decodes to the same."""
    text = "".join(char for char in EVERY if category(char) != "Cs")
    sent = json.dumps({text: [text]}, ensure_ascii=False).encode()
    shown = printable_json(sent)
    assert json.loads(shown) == {text: [text]}
    assert not [char for char in shown.decode() if category(char) in STEERING]
    assert printable_json(b'{"a":\t1,\r\n"b":2}') == b'{"a": 1, \n"b":2}'
    assert json.loads(printable_json(b'"half of it: \xc3"')) == "half of it: \ufffd"


def test_text_of_errors_is_printable() -> None:
    """In an error's text the service's words are printable; its attributes keep them as received."""
    said = "gone\x1b[2J\u202e"
    errors = [
        NotFoundError(said, status=404, errors={said: [said]}, request_id=said, method="GET", url="u"),
        OutcomeUnknownError(said, look_for={"externalId": said}),
        B2BPaymentsError(said),
    ]
    for error in [*errors, *pickle.loads(pickle.dumps(errors))]:  # noqa: S301 - our own
        assert str(error).isprintable()
        assert r"gone\x1b[2J\u202e" in str(error)
        assert error.message == said
        if isinstance(error, APIError):
            assert error.errors == {said: [said]}
