"""Text from outside is shown without our credential, whatever its encoding."""

from __future__ import annotations

import html
import json
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from urllib.parse import quote

import pytest

from b2b_payments._protocol.answer import Answer
from b2b_payments._secret import HIDDEN, Secret, redacted

TOKEN = Secret("q7R+zP2/kd91-Xw=B_tY60&<fe.4hU")


def _each(write: Callable[[str], str]) -> str:
    return "".join(map(write, TOKEN))


ENCODINGS = {
    "JSON": _each(lambda char: f"\\u{ord(char):04x}"),
    "JSON in JSON": _each(lambda char: f"\\\\u{ord(char):04X}"),
    "JavaScript": _each(lambda char: f"\\u{{{ord(char):x}}}"),
    "Python": _each(lambda char: f"\\U{ord(char):08x}"),
    "C": _each(lambda char: f"\\x{ord(char):02x}"),
    "octal": _each(lambda char: f"\\{ord(char):03o}"),
    "backslashes": _each(lambda char: f"\\{char}"),
    "URL": _each(lambda char: f"%{ord(char):02x}"),
    "URL in URL": quote(quote(TOKEN, safe=""), safe=""),
    "URL, escape()": _each(lambda char: f"%u{ord(char):04X}"),
    "mail": _each(lambda char: f"={ord(char):02X}"),
    "HTML": html.escape(TOKEN),
    "HTML by numbers": _each(lambda char: f"&#{ord(char)};"),
    "HTML without semicolons": _each(lambda char: f"&#{ord(char)}"),
    "HTML in HTML": _each(lambda char: f"&amp;amp;#x{ord(char):X};"),
    "HTML by names": TOKEN.replace("+", "&plus;")
    .replace("/", "&sol;")
    .replace("=", "&equals;")
    .replace(".", "&period;"),
    "spaces": " ".join(TOKEN),
    "tabs": "\t".join(TOKEN),
    "tabs in JSON": "\\t".join(TOKEN),
    "zero width": "\u200b".join(TOKEN),
    "soft hyphens": "\u00ad".join(TOKEN),
    "combining marks": "\u0301".join(TOKEN),
    "commas": ", ".join(TOKEN),
    "capitals": TOKEN.upper(),
    "small letters": TOKEN.lower(),
    "wide letters": _each(lambda char: chr(ord(char) + 0xFEE0)),
    "hex": TOKEN.encode().hex(),
    "hex with colons": TOKEN.encode().hex(":"),
    "Node": json.dumps({"type": "Buffer", "data": list(TOKEN.encode())}),
    "bytes in hex": ",".join(f"0x{byte:02x}" for byte in TOKEN.encode()),
    "Base64 for URLs": urlsafe_b64encode(TOKEN.encode()).decode(),
    "Base64 in lines": "\n".join(b64encode(TOKEN.encode()).decode()[at : at + 10] for at in range(0, 40, 10)),
    **{f"Base64 {n}": b64encode(b"user:"[:n] + TOKEN.encode() + b"\n").decode() for n in range(4)},
    "the first half": TOKEN[:15],
    "the second half": TOKEN[12:],
}


@pytest.mark.parametrize("encoded", ENCODINGS.values(), ids=ENCODINGS)
def test_text_with_an_encoded_credential_is_hidden(encoded: str) -> None:
    """If text contains the credential, or a long piece of it, in any encoding, none of it is shown."""
    for text in (encoded, f"Invalid token {encoded}, sorry", f"X-Auth-Token={encoded}&a=1"):
        assert redacted(text, [TOKEN]) == HIDDEN
        assert Answer(400, {}, b"", [TOKEN]).redacted(text, 500) == HIDDEN


def test_text_around_a_plain_credential_is_shown() -> None:
    """If the credential is in its own form, the text around it is kept."""
    assert redacted(f"token {TOKEN} has expired", [TOKEN]) == "token *** has expired"


@pytest.mark.parametrize(
    "text",
    [
        "Payment does not exist",
        "The token q7R+… is not valid & <may> have expired: 100 %, \\o/, C:\\temp\\x41, %20, &nbsp; =3D",
        "0b1e7a52-9c1f-4e0e-8f4e-2f6b8f1f7f1c",
        b64encode(b"another text, just as long as it").decode(),
    ],
)
def test_other_text_is_unchanged(text: str) -> None:
    """Text without the credential is kept, even with escapes and a few of its characters."""
    assert redacted(text, [TOKEN]) == text


@pytest.mark.slow
def test_text_escaped_too_often_is_hidden() -> None:
    """Text with endless levels of escapes is not shown."""
    assert redacted(f"&{'amp;' * 5}lt;", [TOKEN]) != HIDDEN
    assert redacted(f"&{'amp;' * 100_000}lt;", [TOKEN]) == HIDDEN


@pytest.mark.parametrize(
    "unit",
    ["\\", "%", "&#", "&#1", "\\u", "\\u{", "&", " ", "1,", "\\\\x"],
    ids=lambda unit: unit.strip() or "blank",
)
def test_search_time_is_linear(unit: str) -> None:
    """Text full of unfinished escapes, as a hostile gateway may send it, takes linear time."""

    def seconds(length: int) -> float:
        text, begun = unit * (length // len(unit)), time.process_time()
        redacted(text, [TOKEN])
        return time.process_time() - begun

    seconds(1_000)
    # By the square it would be some 256 times as long.
    assert seconds(2**16) < 100 * max(seconds(2**12), 0.001)


@pytest.mark.parametrize("encoded", ["&#0000000000{};", "&#{}"])
def test_huge_character_codes_are_skipped(encoded: str) -> None:
    """Python refuses to parse such numbers; the text around them is searched all the same."""
    text = f"&#{'1' * 5_000};{''.join(encoded.format(ord(char)) for char in TOKEN)}"
    assert redacted(text, [TOKEN]) == HIDDEN


@pytest.mark.parametrize("before", [470, 480, 499, 500, 49_970, 49_990, 50_000])
@pytest.mark.parametrize("blank", [" ", "x"])
def test_truncation_shows_no_part_of_the_credential(before: int, blank: str) -> None:
    """Wherever the credential is in a long text, no part of it is shown."""
    for encoded in (TOKEN, ENCODINGS["JSON"], ENCODINGS["spaces"]):
        shown = Answer(400, {}, b"", [TOKEN]).redacted(f"{blank * before}{encoded} and so on", 500)
        assert len(shown) <= 500
        assert not {TOKEN[at : at + 4] for at in range(len(TOKEN) - 3)} & {
            shown.replace(" ", "")[at : at + 4] for at in range(len(shown))
        }
        assert "\\u00" not in shown


def test_without_a_credential_nothing_is_hidden() -> None:
    """An answer without known credentials shows its text."""
    assert Answer(400, {}, b"").redacted(" a\n b ", 500) == "a b"
