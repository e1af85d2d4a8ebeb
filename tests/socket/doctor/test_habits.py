"""Findings about sandboxes that behave in different ways."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from b2b_payments._doctor.asking import MAX_REQUESTS, examine
from b2b_payments._doctor.findings import findings
from b2b_payments.sandbox import Fault, Rules, Sandbox, SeenRequest
from tests.support.virtual_time import run

_USUAL = {
    "authentication": "store",
    "store": "the credential's",
    "clock": "in step",
    "quota headers": "present",
    "quota": "150/60",
    "quota window": "fixed or sliding",
    "other programs": "none seen",
    "failures": "none",
    "page size": "250",
    "stated limit": "as used",
    "offset": "heeded",
    "default list": "newest first",
    "order": "heeded",
    "order among equals": "stable",
    "totals": "of the list",
    "paging window": "none",
    "filters": "heeded",
    "totals under filters": "of the filtered",
    "channels": "listed",
    "channelIds": "repeat",
    "channelIds otherwise": "ignored",
    "list without channelIds": "all channels",
    "reading by id": "works",
    "list lag": "unknown",
    "unreadable": "none",
    "unknown fields": "none",
    "unknown values": "none",
    "spellings": "fees as objects",
}
"""The verdicts for a sandbox with default rules."""

_NO_CHANNELS = {
    "channelIds": "unknown",
    "channelIds otherwise": "unknown",
    "list without channelIds": "unknown",
}


def _set_clock(sandbox: Sandbox, ahead: int = 0) -> None:
    """Set the store's clock to this machine's, plus some seconds: by default it starts years ago."""

    def tick(_: object) -> None:
        sandbox.store.clock = int(time.time()) + ahead

    tick(None)
    sandbox.answer_with(tick)


def _ahead(seconds: int) -> Callable[[Sandbox], object]:
    return lambda sandbox: _set_clock(sandbox, seconds)


def _create(sandbox: Sandbox) -> None:
    sandbox.store.insert()


def _update(sandbox: Sandbox) -> None:
    sandbox.store.update(sandbox.store.payments, processingStatus=2)


def _break(sandbox: Sandbox) -> None:
    sandbox.store.update(1, total={"code": "USD", "value": "much"})


def _surprise(sandbox: Sandbox) -> None:
    sandbox.store.update(1, brandNew=1)
    sandbox.store.update(2, processingStatus=9)


def _use_one_channel(sandbox: Sandbox) -> None:
    for payment_id in sandbox.store.ids():
        sandbox.store.update(payment_id, channelId="1")


def _remove_items(sandbox: Sandbox) -> None:
    sandbox.store.update(1, lineItems=[])


def _answer(sandbox: Sandbox, status: int, is_meant: Callable[[SeenRequest], bool]) -> None:
    """Answer some requests with a status."""

    def answer(seen: SeenRequest) -> web.Response | None:
        sandbox.store.clock = int(time.time())
        return web.json_response({}, status=status) if is_meant(seen) else None

    sandbox.answer_with(answer)


def _refuse_ids(sandbox: Sandbox) -> None:
    _answer(sandbox, 403, lambda seen: seen.path.rpartition("/")[2].isdigit())


HABITS: dict[str, tuple[dict[str, Any], Callable[[Sandbox], object] | None, dict[str, str]]] = {
    "as documented": ({}, None, {}),
    "two channels": ({"channels": (1, 2)}, None, {}),
    "two channels, one without payments": (
        {"channels": (1, 2)},
        _use_one_channel,
        {"channelIds": "unknown", "list without channelIds": "unknown", "list lag": "not seen"},
    ),
    "one channel": ({"channels": (1,)}, None, _NO_CHANNELS),
    "no multi-storefront": (
        {"rules": Rules(multi_storefront=False)},
        None,
        {**_NO_CHANNELS, "channels": "single storefront"},
    ),
    "channelIds with brackets": (
        {"rules": Rules(channel_encoding="brackets")},
        None,
        {"channelIds": "brackets"},
    ),
    "channelIds with brackets and a comma, others refused": (
        {"rules": Rules(channel_encoding="brackets-comma", other_channel_encodings=422)},
        None,
        {"channelIds": "brackets-comma", "channelIds otherwise": "refused 422"},
    ),
    "channelIds with a comma, others find nothing": (
        {"rules": Rules(channel_encoding="comma", other_channel_encodings="nothing")},
        None,
        {"channelIds": "comma", "channelIds otherwise": "found nothing"},
    ),
    "the last of several channels alone": (
        {"rules": Rules(channel_encoding="repeat-last")},
        None,
        {"channelIds": "one at a time", "channelIds otherwise": "ignored, read in part"},
    ),
    "no spelling of channelIds": ({"rules": Rules(channel_encoding=())}, None, {"channelIds": "none"}),
    "one channel by default": (
        {"rules": Rules(default_channels=[1]), "payments": 960},
        None,
        {"list without channelIds": "some channels"},
    ),
    "two of three channels by default": (
        {"rules": Rules(default_channels=[1, 2]), "payments": 480},
        None,
        {"list without channelIds": "some channels"},
    ),
    "two of three channels by default, and no total": (
        {"rules": Rules(default_channels=[1, 2], total_count="absent")},
        None,
        {"list without channelIds": "unknown"}
        | {"page size": "unknown", "totals": "absent", "paging window": "unknown"}
        | {"totals under filters": "unknown"},
    ),
    "pages of 100": ({"rules": Rules(max_limit=100)}, None, {"page size": "100"}),
    "pages of 249, larger ones refused": (
        {"rules": Rules(max_limit=249, over_limit="refuse")},
        None,
        {"page size": "249, more refused"},
    ),
    "pages of 100, larger ones refused": (
        {"rules": Rules(max_limit=100, over_limit="refuse")},
        None,
        {"page size": "100, more refused"},
    ),
    "pages of 10, larger ones refused": (
        {"rules": Rules(max_limit=10, over_limit="refuse")},
        None,
        dict.fromkeys(("page size", "stated limit", "offset", "order", "order among equals"), "unknown")
        | dict.fromkeys(("paging window", "totals under filters", "channelIds"), "unknown"),
    ),
    "pages of 280": ({"rules": Rules(max_limit=280)}, None, {"page size": "280"}),
    "short pages": ({"rules": Rules(short_pages=0.5)}, None, {"page size": "short pages"}),
    "the limit as asked": ({"rules": Rules(echo="asked")}, None, {"stated limit": "as asked"}),
    "no limit stated": ({"rules": Rules(echo=None)}, None, {"stated limit": "absent"}),
    "offset zero stated": ({"rules": Rules(echo_offset="zero")}, None, {"offset": "stated otherwise"}),
    "offset stated up to the total": (
        {"rules": Rules(echo_offset="clamped")},
        None,
        {"offset": "stated up to the total"},
    ),
    "offset ignored": ({"rules": Rules(ignores="offset")}, None, {"offset": "offset ignored"}),
    "limit ignored": (
        {"rules": Rules(ignores="limit")},
        None,
        {"offset": "limit ignored", "page size": "10"},
    ),
    "oldest first by default": (
        {"rules": Rules(default_order="ASC")},
        None,
        {"default list": "oldest first"},
    ),
    "orderBy ignored": (
        {"rules": Rules(ignores="orderBy", ignored_order="DESC")},
        None,
        {"order": "orderBy ignored"},
    ),
    "sortBy ignored": ({"rules": Rules(ignores="sortBy")}, None, {"order": "sortBy ignored"}),
    "equals shuffled": ({"rules": Rules(equals="shuffled")}, None, {"order among equals": "shuffled"}),
    "equals one way": ({"rules": Rules(equals="one way")}, None, {"order among equals": "one way"}),
    "invoiceId ignored": ({"rules": Rules(ignores="invoiceId")}, None, {"filters": "invoiceId ignored"}),
    "customerName ignored": (
        {"rules": Rules(ignores="customerName")},
        None,
        {"filters": "customerName ignored"},
    ),
    "q ignored": ({"rules": Rules(ignores="q")}, None, {"filters": "q ignored"}),
    "q finds parts of ids": ({"rules": Rules(search="parts")}, None, {}),
    "searchBy ignored": (
        {"rules": Rules(ignores="searchBy")},
        None,
        {"filters": "q found in other fields than searchBy says"},
    ),
    "processingStatus ignored": (
        {"rules": Rules(ignores="processingStatus")},
        None,
        {"filters": "processingStatus ignored", "totals under filters": "unknown"},
    ),
    "no total": (
        {"rules": Rules(total_count="absent")},
        None,
        {"totals": "absent", "paging window": "unknown", "totals under filters": "unknown"},
    ),
    "the page's own total": (
        {"rules": Rules(total_count="page")},
        None,
        {"totals": "of the page", "paging window": "unknown", "totals under filters": "unknown"},
    ),
    "the whole store's total under a filter": (
        {"rules": Rules(total_count="store")},
        None,
        {"totals under filters": "of all"},
    ),
    "wandering totals": (
        {"rules": Rules(total_count="wandering")},
        None,
        {"totals": "wandering", "totals under filters": "unknown"},
    ),
    "a total that is cut": (
        {"rules": Rules(total_cap=280)},
        None,
        {"totals": "too small", "paging window": "unknown", "totals under filters": "unknown"},
    ),
    "a total and a window of the same size": (
        {"rules": Rules(total_cap=280, paging_window=280)},
        None,
        {"totals": "too small", "paging window": "280", "totals under filters": "unknown"},
    ),
    "a window of 280 rows": ({"rules": Rules(paging_window=280)}, None, {"paging window": "280"}),
    "a window of 400 rows": (
        {"payments": 1200, "rules": Rules(paging_window=400)},
        None,
        {"paging window": "250 to 499"},
    ),
    "a window of 600 rows": (
        {"payments": 1200, "rules": Rules(paging_window=600)},
        None,
        {"paging window": "501 to 949"},
    ),
    "lists that lag a create": ({"rules": Rules(list_lag=900)}, _create, {"list lag": "seen"}),
    "lists that lag an update": ({"rules": Rules(list_lag=900)}, _update, {"list lag": "seen"}),
    "lists that do not lag": ({}, _create, {"list lag": "not seen"}),
    "lists that leave the newest out": ({"rules": Rules(shown=290)}, None, {"list lag": "left out"}),
    "ids in text": ({"rules": Rules(ids_as="string")}, None, {"spellings": "fees as objects, ids in text"}),
    "fees as numbers": ({"rules": Rules(fees_as="numbers")}, None, {"spellings": "fees as numbers"}),
    "empties exchanged, and fields left out": (
        {"rules": Rules(empties_as="swapped", sparse_lists=True)},
        None,
        {
            "spellings": "empty lists and objects exchanged, fees as objects, fields left out of lists, "
            "line items without amounts"
        },
    ),
    "payments that can only be listed": ({}, _refuse_ids, {"reading by id": "refused 403"}),
    "a single payment without line items": (
        {"payments": 1},
        _remove_items,
        dict.fromkeys(("page size", "offset", "default list", "order", "order among equals"), "unknown")
        | dict.fromkeys(("filters", "totals under filters"), "unknown")
        | dict.fromkeys(("channelIds", "list without channelIds"), "unknown")
        | {"list lag": "not seen", "spellings": "as documented"},
    ),
    "no payments": (
        {"payments": 0},
        None,
        dict.fromkeys(_USUAL, "unknown")
        | {
            topic: _USUAL[topic]
            for topic in _USUAL
            if topic.startswith(("authentication", "clock", "quota", "other", "failures", "channels"))
        },
    ),
    "an amount that is none": ({}, _break, {"unreadable": "some", "list lag": "not seen"}),
    "a field and a status that are new": (
        {},
        _surprise,
        {"unknown fields": "some", "unknown values": "some", "list lag": "not seen"},
    ),
    "none of the documented headers": (
        {"rules": Rules(quota_headers=False, date_header=False)},
        None,
        {
            "clock": "not said",
            "quota headers": "absent",
            "quota": "unknown",
            "quota window": "unknown",
            "other programs": "unknown",
        },
    ),
    "another quota": ({"rules": Rules(requests=100, per=30)}, None, {"quota": "100/30"}),
    "a quota that others use": (
        {"rules": Rules(requests=90_000, others_per_window=89_000)},
        None,
        {"quota": "90000/60", "other programs": "seen"},
    ),
    "a bucket that leaks": ({"rules": Rules(window="leaky")}, None, {"quota window": "leaky bucket"}),
    "a clock that is ahead": ({}, _ahead(300), {"clock": "ahead"}),
    "a clock that is behind": ({}, _ahead(-300), {"clock": "behind"}),
}


_QUICK = {
    "as documented",
    "no multi-storefront",
    "channelIds with brackets",
    "orderBy ignored",
    "a window of 280 rows",
    "a field and a status that are new",
    "none of the documented headers",
}
"""Habits that cover most findings. The many others are slow tests."""


@pytest.mark.parametrize(
    "habit", [pytest.param(one, marks=() if one in _QUICK else pytest.mark.slow) for one in HABITS]
)
async def test_each_habit_is_found_and_no_other(habit: str) -> None:
    """The findings show exactly how the service differs, using only reads, and no more than the limit."""
    settings, prepare, differs = HABITS[habit]
    async with Sandbox(**{"payments": 320, "seed": 7} | settings) as sandbox:
        _set_clock(sandbox)
        if prepare is not None:
            prepare(sandbox)
        evidence = await examine(sandbox.auth, [], {"base_url": sandbox.base_url})
        assert evidence.requests == sandbox.request_count <= MAX_REQUESTS
        assert {seen.method for seen in sandbox.requests} == {"GET"}
    assert {topic: one.verdict for topic, one in findings(evidence).items()} == _USUAL | differs


@pytest.mark.parametrize(
    "fault",
    [
        *(Fault.ERROR_503, Fault.RATE_LIMITED, Fault.RESET_AFTER, Fault.HTML_502, Fault.OK_WITH_CODE_500),
        *(Fault.EMPTY_LIST, Fault.OTHER_STORE, Fault.DUPLICATE_IDS, Fault.NAN, Fault.GARBAGE, Fault.DEEP),
        *(Fault.HTML_404, Fault.WRONG_TYPE, Fault.INVALID_UTF8),
    ],
    ids=lambda fault: fault.name,
)
def test_failing_service(fault: Fault) -> None:
    """If half of the requests fail, the examination still ends with findings, and within its limit."""

    async def scenario() -> None:
        async with Sandbox(payments=60, rules=Rules(quota=False)) as sandbox:
            sandbox.order(fault, share=0.5)
            evidence = await examine(sandbox.auth, [sandbox.legacy_auth], {"base_url": sandbox.base_url})
            assert evidence.requests == sandbox.request_count <= MAX_REQUESTS
        assert findings(evidence)

    run(scenario())


def test_examination_that_reaches_its_limit() -> None:
    """If every request has to be repeated, the last questions are not asked, and their topics are unknown."""

    async def scenario() -> None:
        async with Sandbox(payments=320) as sandbox:
            _answer(sandbox, 503, lambda _: sandbox.request_count % 2 == 1)
            evidence = await examine(sandbox.auth, [], {"base_url": sandbox.base_url})
            assert evidence.requests == sandbox.request_count <= MAX_REQUESTS
        found = findings(evidence)
        assert found["channelIds"].verdict == "repeat"
        assert "The limit of requests was reached." in str(evidence.get("newest").failure)
        assert found["reading by id"].level == "unknown"

    run(scenario())


async def test_old_token_of_a_store_with_an_unusable_hash() -> None:
    """If the payments name a store that no credential can, the old token is examined as it is."""
    async with Sandbox(payments=60) as sandbox:
        sandbox.store.update(60, storeHash="/x/")
        evidence = await examine(sandbox.legacy_auth, [], {"base_url": sandbox.base_url})
    assert evidence.get("plain").rows[0]["storeHash"] == "/x/"
    assert findings(evidence)["authentication"].verdict == "legacy"
