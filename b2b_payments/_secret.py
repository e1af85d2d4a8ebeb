"""Credentials that hide themselves, and the redaction of text that repeats them."""

from __future__ import annotations

import html
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any
from unicodedata import normalize

HIDDEN = "*** (not shown, since it repeats the credential)"

_PIECE = 12
"""How many consecutive letters and digits of a credential text must not show; fewer reveal nothing."""
_MAX_ROUNDS = 8


class Secret(str):
    """A credential whose `repr` is ``'***'``, so that debuggers and error reporters do not show it.

    It is a string, since aiohttp's headers accept nothing else.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    def __reduce__(self) -> tuple[Any, ...]:
        return Secret, (str.__str__(self),)


def redacted(text: str, secrets: Sequence[Secret]) -> str:
    """Return text without our credentials, or longer pieces of them.

    A credential in its own form becomes ``***``. A gateway that echoes a request may encode it in other ways:
    if the text's letters and digits, unescaped and case-folded, contain a piece of it, all text is hidden.
    """
    for secret in secrets:
        text = text.replace(secret, "***")
        if repeats(text, secret):
            return HIDDEN
    return text


def repeats(text: str, secret: Secret) -> bool:
    """Whether text contains a piece of a credential in any encoding, or is escaped too often to tell."""
    pieces = _pieces(secret)
    for rounds, form in enumerate(_forms(text)):
        if rounds >= _MAX_ROUNDS or _holds(_letters(form), pieces):
            return True
        if "," in form and _holds(_letters(_CODES.sub(_char_of_code, form)), pieces):
            return True
        # In JSON inside text, `\\t` may be a tab, or a needlessly escaped letter.
        if "\\" in form and _holds(_letters(_SPACE.sub("", form)), pieces):
            return True
    return False


def _holds(letters: str, pieces: Mapping[int, frozenset[str]]) -> bool:
    return any(
        letters[at : at + size] in some
        for size, some in pieces.items()
        for at in range(len(letters) - size + 1)
    )


def _forms(text: str) -> Iterator[str]:
    """Yield text as it is, then with one more level of escapes undone each time, until none is left."""
    yield text
    if not _MARK.search(text):
        return
    while (plain := _ESCAPE.sub(_char, _unescaped(text))) != text:
        yield plain
        text = plain


_HEX = "[0-9A-Fa-f]"
# Match whole runs only: trying each backslash of a run as a start would take quadratic time.
_BACKSLASHES = r"(?<!\\)\\++"
# Escaped characters in JSON, JavaScript, Python, C, URLs and mail.
_ESCAPE = re.compile(
    rf"{_BACKSLASHES}(?:u\{{({_HEX}{{1,8}})\}}|u({_HEX}{{4}})|U({_HEX}{{8}})|x({_HEX}{{2}})|([0-7]{{3}}))"
    rf"|%u({_HEX}{{4}})|[%=]({_HEX}{{2}})"
)


_MARK = re.compile(r"[\\%&=]")
_SPACE = re.compile(_BACKSLASHES + "[bfnrtv]")
# Python refuses to parse numbers with thousands of digits, and no character code has that many.
_ZEROS = re.compile("(?<=&#)0+(?=[0-9])")
_NO_CHAR = re.compile("&#[0-9]{8,};?")
# Bytes as numbers: the way in which Node prints a raw body.
_CODES = re.compile(rf"\b(?:0[xX]({_HEX}{{1,2}})|[0-9]{{2,3}})\b")
_NO_LETTERS = re.compile("[^a-z0-9]+")


def _unescaped(text: str) -> str:
    """Undo HTML escapes."""
    if "&#" in text:
        text = _NO_CHAR.sub("", _ZEROS.sub("", text))
    return html.unescape(text)


def _char(escape: re.Match[str]) -> str:
    code = int(escape[5], 8) if escape[5] else int(escape[escape.lastindex or 0], 16)
    return chr(code) if code < 0x110000 else escape[0]


def _char_of_code(code: re.Match[str]) -> str:
    return chr(int(code[1], 16) if code[1] else int(code[0]))


def _letters(text: str) -> str:
    if text.isascii():
        return _NO_LETTERS.sub("", text.lower())
    return "".join(filter(str.isalnum, normalize("NFKD", text).casefold()))


@lru_cache(maxsize=16)
def _pieces(secret: Secret) -> Mapping[int, frozenset[str]]:
    """Return the pieces that text must not contain, by length: of the credential, its Base64 and its hex."""
    token = secret.encode()
    # Base64 has three forms, by the number of bytes before; the outer characters also encode other bytes.
    ways = [b64encode(bytes(before) + token)[before + bool(before) :] for before in range(3)]
    encoded = [_letters(way.rstrip(b"=").decode()[:-1]) for way in ways] + [token.hex()]
    forms = [_letters(secret), *[form for form in encoded if len(form) >= _PIECE]]
    pieces = [
        Secret(form[start : start + _PIECE])
        for form in filter(None, forms)
        for start in range(max(1, len(form) - _PIECE + 1))
    ]
    return {size: frozenset(one for one in pieces if len(one) == size) for size in set(map(len, pieces))}
