"""Writes stopped by a signal: the message says what may have happened, and which command shows it."""

from __future__ import annotations

import json
import signal

import anyio
import pytest
from aiohttp import web

from b2b_payments.sandbox import Fault, Rules, Sandbox, SeenRequest
from tests.support.program import finished, invoke, start, stop_when_done

CREATE = ["create-offline", "--customer-id", "95000", "--currency", "USD", "--line", "13=20.00"]
CHECK = "before you repeat the command, check"
LATER = f"{CHECK} in 20 minutes (lists may lag)"
# The command, the effect that is uncertain, and the command that shows it.
CASES: list[tuple[list[str], str, str]] = [
    (
        [*CREATE, "--external-id", "INV 7", "--yes"],
        "the payment with externalId INV 7 was recorded",
        f"{LATER}: `b2b-payments list --search-by externalId --q 'INV 7'`",
    ),
    (
        CREATE,
        "the payment of customer 95000 was recorded",
        f"{LATER}: `b2b-payments list --order DESC --limit 20`",
    ),
    (
        ["perform", "7", "0"],
        "operation 0 on payment 7 was performed",
        f"{CHECK}: `b2b-payments operations 7`",
    ),
    (
        ["update-offline", "7", *CREATE[1:]],
        "payment 7 was replaced",
        f"{CHECK}: `b2b-payments get 7`",
    ),
    (
        ["set-status", "7", "completed"],
        "payment 7 has processing status 3",
        f"{CHECK}: `b2b-payments get 7`",
    ),
    (
        ["delete", "7", "--yes"],
        "payment 7 was deleted",
        f"{CHECK}: `b2b-payments get 7`",
    ),
]


def arrival(sandbox: Sandbox) -> anyio.Event:
    """Return an event that is set when a request has arrived."""
    event = anyio.Event()

    def note(_: SeenRequest) -> web.Response | None:
        event.set()
        return None

    sandbox.answer_with(note)
    return event


@pytest.mark.slow
@pytest.mark.parametrize(("command", "what", "look"), CASES, ids=[what for _, what, _ in CASES])
async def test_write_stopped_after_it_was_sent_names_the_check(
    command: list[str], what: str, look: str
) -> None:
    """Ctrl-C while a write waits for its answer: the message says what is uncertain, and how to check it."""
    async with Sandbox(20) as sandbox:
        sandbox.order(Fault.HANG, share=1)
        arrived = arrival(sandbox)
        process = await start(sandbox, *command)
        await arrived.wait()
        process.send_signal(signal.SIGINT)
        code, out, err = await finished(process)
    assert (code, out) == (130, "")
    assert err.splitlines() == [
        f"Stopped by Ctrl-C after the request was sent. It is not known whether {what}; {look}."
    ]


@pytest.mark.slow
async def test_refused_write_changed_nothing() -> None:
    """SIGTERM during the pause after a refusal: nothing was changed, and the message says so."""
    async with Sandbox(20, rules=Rules(refusal_wait=60)) as sandbox:
        sandbox.order(Fault.RATE_LIMITED, share=1)
        process = await start(sandbox, "delete", "7", "--yes")
        assert process.stderr is not None
        while b"asks to wait" not in await process.stderr.readline():
            pass
        process.send_signal(signal.SIGTERM)
        code, _, err = await finished(process)
    assert code == 143
    assert err.splitlines()[-1] == "Stopped by SIGTERM: nothing was changed."
    assert 7 in sandbox.store


@pytest.mark.parametrize(("command", "what", "look"), CASES[1:3], ids=[what for _, what, _ in CASES[1:3]])
def test_uncertain_write_names_the_check(service: Sandbox, command: list[str], what: str, look: str) -> None:
    """If the client could not find out either, the error ends with the command that shows it; exit code 3."""
    service.order(Fault.ERROR_503, methods=["POST"], times=1)
    result = invoke(service, *command)
    assert result.exit_code == 3, what
    assert result.stderr.splitlines()[-1].endswith(f" So {look}.")


def test_write_stopped_after_its_answer(service: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C after the answer to a write: its result is printed, and the message says that it was done."""
    stop_when_done(monkeypatch)
    result = invoke(service, "set-status", "7", "completed")
    assert (result.exit_code, result.stderr) == (
        130,
        "Stopped by Ctrl-C: payment 7 has processing status 3.\n",
    )
    assert json.loads(result.stdout)["id"] == 7
