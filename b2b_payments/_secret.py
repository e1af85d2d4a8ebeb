"""A credential as a string that hides itself, and text of others without it."""

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
"""Letters and digits of a credential that text must not show in a row; fewer give nothing away."""
_MOST_ROUNDS = 8


class Secret(str):
    """A credential that shows itself to the wire and to nobody else: its `repr` is ``'***'``.

    A string, since aiohttp's headers take nothing else; so it stays hidden also where a debugger or an
    error reporter prints the local variables of a frame.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    def __reduce__(self) -> tuple[Any, ...]:
        return Secret, (str.__str__(self),)


def redacted(text: str, secrets: Sequence[Secret]) -> str:
    """Return text that does not show our own credentials, nor a longer piece of one.

    A credential that stands there as it is becomes ``***``. A gateway that repeats a request may spell it in
    any other way, so nothing is shown of text whose letters and digits, with escapes undone and in one case,
    hold a piece of it.
    """
    for one in secrets:
        text = text.replace(one, "***")
        if repeats(text, one):
            return HIDDEN
    return text


def repeats(text: str, secret: Secret) -> bool:
    """Whether text holds a piece of a credential, however it is spelled; or is escaped too often to tell."""
    pieces = _pieces(secret)
    for place, form in enumerate(_forms(text)):
        if place >= _MOST_ROUNDS or _holds(_letters(form), pieces):
            return True
        if "," in form and _holds(_letters(_CODES.sub(_char_of_code, form)), pieces):
            return True
        # Of JSON in text, `\\t` may be a tab, or a letter that is escaped for nothing.
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
    """Yield text as it is, and with escapes undone, once more each time, until none is left."""
    yield text
    if not _MARK.search(text):
        return
    while (plain := _ESCAPE.sub(_char, _unescaped(text))) != text:
        yield plain
        text = plain


_HEX = "[0-9A-Fa-f]"
# A whole run of them: one that were tried from each of its backslashes would take time by its square.
_BACKSLASHES = r"(?<!\\)\\++"
# What JSON, JavaScript, Python, C, URLs and mails write for a character.
_ESCAPE = re.compile(
    rf"{_BACKSLASHES}(?:u\{{({_HEX}{{1,8}})\}}|u({_HEX}{{4}})|U({_HEX}{{8}})|x({_HEX}{{2}})|([0-7]{{3}}))"
    rf"|%u({_HEX}{{4}})|[%=]({_HEX}{{2}})"
)


_MARK = re.compile(r"[\\%&=]")
_SPACE = re.compile(_BACKSLASHES + "[bfnrtv]")
# Python reads no number of thousands of digits, and no character has one.
_ZEROS = re.compile("(?<=&#)0+(?=[0-9])")
_NO_CHAR = re.compile("&#[0-9]{8,};?")
# Bytes as numbers: Node writes a body that it has not read so.
_CODES = re.compile(rf"\b(?:0[xX]({_HEX}{{1,2}})|[0-9]{{2,3}})\b")
_NO_LETTERS = re.compile("[^a-z0-9]+")


def _unescaped(text: str) -> str:
    """Undo HTML's escapes."""
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
    """Return what text must not hold, by length: pieces of the credential, and of its Base64 and hex."""
    token = secret.encode()
    # How many bytes stand before it decides which of three ways Base64 writes it; the ends mix with others.
    ways = [b64encode(bytes(before) + token)[before + bool(before) :] for before in range(3)]
    encoded = [_letters(way.rstrip(b"=").decode()[:-1]) for way in ways] + [token.hex()]
    forms = [_letters(secret), *[form for form in encoded if len(form) >= _PIECE]]
    pieces = [
        Secret(form[place : place + _PIECE])
        for form in filter(None, forms)
        for place in range(max(1, len(form) - _PIECE + 1))
    ]
    return {size: frozenset(one for one in pieces if len(one) == size) for size in set(map(len, pieces))}
