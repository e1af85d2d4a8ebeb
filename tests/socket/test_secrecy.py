"""A planted credential is searched for in everything emitted, under every fault of the service."""

from __future__ import annotations

import html
import json
import logging
import pickle
import re
from collections.abc import Awaitable, Callable
from urllib.parse import quote, unquote

import pytest
from aiohttp import web

from b2b_payments import (
    APIError,
    B2BPaymentsError,
    ConfigurationError,
    OutcomeUnknownError,
    PaymentsClient,
    StoreAuth,
)
from b2b_payments.sandbox import Fault, Rules, Sandbox
from tests.support.clients import NEVER, client_of

pytestmark = pytest.mark.virtual_time

# A single call to one payment gets its own answer all the same, or always one that names another store.
HARMLESS = {
    *(Fault.BYTE_ORDER_MARK, Fault.DUPLICATE_IDS, Fault.EMPTY_LIST, Fault.OTHER_STORE),
    *(Fault.STRAY, Fault.DOUBLED, Fault.SWAPPED),
}
FAULTS: list[tuple[Fault, Callable[[PaymentsClient], Awaitable[object]]]] = [
    (fault, call)
    for fault in Fault
    if fault not in HARMLESS | {Fault.HUGE, Fault.GZIP_BOMB}
    for call in (
        lambda client: client.payments.get(1),
        lambda client: client.payments.perform_operation(1, 0),
    )
]


@pytest.mark.parametrize(("fault", "call"), FAULTS)
async def test_no_fault_shows_the_credential(
    fault: Fault, call: Callable[[PaymentsClient], Awaitable[object]], caplog: pytest.LogCaptureFixture
) -> None:
    """Under every fault, error, log and events contain no credential, and no error is chained."""
    events: list[object] = []
    caplog.set_level("DEBUG")
    rules = Rules(drip_interval=1.0)
    async with Sandbox(3, rules=rules) as sandbox:
        sandbox.order(fault, share=1)
        token = str(sandbox.auth.access_token)
        async with client_of(sandbox, retry=NEVER, timeout=0.2, on_event=events.append) as client:
            with pytest.raises(B2BPaymentsError) as caught:
                await call(client)
        assert not isinstance(caught.value, ConfigurationError)
        assert caught.value.__cause__ is None
        assert token not in f"{caught.value} {caught.value!r} {vars(caught.value)}"
        records = [f"{record.getMessage()} {vars(record)}" for record in caplog.records]
        assert records
        assert not [text for text in [*records, *map(repr, events)] if token in text]


async def test_unknown_outcome_shows_no_credential() -> None:
    """If a write's outcome stays unknown, its error says what to look for, without a credential."""
    async with Sandbox(3) as sandbox, client_of(sandbox, retry=NEVER) as client:
        sandbox.order(Fault.RESET_BEFORE, share=1)
        with pytest.raises(OutcomeUnknownError) as caught:
            await client.payments.perform_operation(1, 0)
        assert caught.value.look_for == {"id": 1}
        assert str(sandbox.auth.access_token) not in f"{caught.value} {vars(caught.value)}"


TOKEN = 'aZ9+/=<&>"~-_.tok'


def _escaped(token: str) -> str:
    return "".join(f"\\u{ord(char):04X}" if index % 2 else char for index, char in enumerate(token))


# As text of JSON, each as a gateway could repeat it; the quotes of JSON itself are added below.
SPELLINGS = {
    "as it is": json.dumps(TOKEN)[1:-1],
    "escaped": "".join(f"\\u{ord(char):04x}" for char in TOKEN),
    "escaped in part": _escaped(json.dumps(TOKEN)[1:-1].replace('\\"', '"')).replace('"', '\\"'),
    "slashes": json.dumps(TOKEN)[1:-1].replace("/", "\\/"),
    "JSON in text": json.dumps(json.dumps({"X-Auth-Token": TOKEN}))[1:-1],
    "escaped JSON in text": json.dumps("".join(f"\\u{ord(char):04X}" for char in TOKEN))[1:-1],
    "in a URL": quote(TOKEN, safe=""),
    "in a URL's small letters": quote(TOKEN, safe="").lower().replace("az9", "aZ9"),
    "in a URL in a URL": quote(quote(TOKEN, safe=""), safe=""),
    "in HTML": html.escape(TOKEN),
    "in HTML by numbers": "".join(f"&#{ord(char)};" for char in TOKEN),
    "in HTML by other numbers": "".join(f"&#x{ord(char):X};" for char in TOKEN),
}


def _plain(text: str) -> str:
    """Return text as a search for a token would read it: letters and digits only, escapes undone."""
    for _ in range(3):
        text = html.unescape(text)
        text = re.sub(r"\\+u00([0-9a-fA-F]{2})", lambda match: chr(int(match[1], 16)), text)
        text = unquote(text).replace("\\", "")
    return text


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("status", [200, 401, 422])
async def test_no_encoding_of_the_credential_is_shown(
    spelling: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """However an answer encodes our token, no error, pickle, log record or event contains it."""
    caplog.set_level(logging.DEBUG)
    said = f"bad {spelling} \\u001b[2J\\u202e here"
    body = (
        f'{{"code": 422, "data": {{"errMsg": "{said}", "{said}": ["{said}"], "a": {{"{said}": "{said}"}}}},'
        f'"meta": {{"message": "{said}"}}}}'
    )
    assert TOKEN in _plain(body)
    events: list[object] = []

    def refuse(_: object) -> web.Response:
        return web.Response(
            text=body, status=status, content_type="application/json", headers={"X-Request-Id": TOKEN}
        )

    async with Sandbox(3) as sandbox:
        sandbox.answer_with(refuse)
        auth = StoreAuth(sandbox.auth.store_hash, TOKEN)
        async with client_of(sandbox, auth=auth, retry=NEVER, on_event=events.append) as client:
            errors = []
            for call in (client.payments.get(1), client.payments.list().collect()):
                with pytest.raises(APIError) as caught:
                    await call
                errors.append(caught.value)
    for error in errors:
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
        for one in (error, again):
            shown = f"{one} {one!r} {vars(one)} {one.args}"
            assert TOKEN not in _plain(shown)
            assert "aZ9" not in _plain(shown)
            assert "***" in str(one)
            assert one.request_id == "***"
        assert b"aZ9" not in pickle.dumps(error)
    ours = [record for record in caplog.records if record.name.startswith("b2b_payments")]
    records = [f"{record.getMessage()} {vars(record)}" for record in ours]
    assert records
    assert all(record.getMessage().isprintable() for record in ours)
    assert not [text for text in [*records, *map(repr, events)] if "aZ9" in _plain(text)]
