"""Asks the questions of an examination: the one part of it that does I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any

import anyio
import attrs

from b2b_payments._call import Caller, Spent
from b2b_payments._client import PaymentsClient
from b2b_payments._doctor.evidence import Auth, Evidence, NotAskedError, Question, Seen
from b2b_payments._doctor.questions import examination
from b2b_payments._errors import B2BPaymentsError
from b2b_payments._protocol.answer import Answer, Envelope, read_envelope
from b2b_payments._protocol.limits import read_limits
from b2b_payments._protocol.request import Request
from b2b_payments._quota import Quota
from b2b_payments._retry import RetryPolicy

MOST_REQUESTS = 32
"""An examination never sends more requests than this, those that are sent again included."""
_OF_ONE = (
    4  # that a question may take: after a failure once more, and a payment's id is asked for up to thrice
)


async def examine(auth: Auth, others: Sequence[Auth], settings: Mapping[str, Any]) -> Evidence:
    """Ask, and give what was seen. `settings` are a client's; `others` are tried where `auth` does not work.

    Reads alone are sent, at most `MOST_REQUESTS`. Raises ConfigurationError for settings that cannot work;
    what requests fail with is evidence.
    """
    quota = settings.get("quota", Quota())
    evidence = Evidence(auth, quota)
    tally = Spent()
    clients: dict[int, PaymentsClient] = {}
    async with AsyncExitStack() as stack:
        questions = examination(evidence, others)
        question = next(questions)
        while True:
            auth = question.auth or evidence.auth
            if id(auth) not in clients:
                client = PaymentsClient(auth, **{**settings, "retry": RetryPolicy(attempts=2)})
                clients[id(auth)] = await stack.enter_async_context(client)
            caller = clients[id(auth)]._caller  # noqa: SLF001 - the one who looks behind the client's back
            seen = evidence.seen[question.name] = await _ask(caller, question, tally)
            evidence.requests = tally.requests
            try:
                question = questions.send(seen)
            except StopIteration:
                return evidence


async def _ask(caller: Caller, question: Question, tally: Spent) -> Seen:
    if tally.requests + _OF_ONE > MOST_REQUESTS:
        return Seen(question, failure=NotAskedError("No requests were left for it."))
    answers: list[tuple[Answer, datetime, float]] = []
    asked = datetime.now(UTC)
    failure: B2BPaymentsError | None = None
    envelope = Envelope(None, {})
    try:
        envelope = await caller.read(question.request, partial(_noted, answers), tally=tally)
    except B2BPaymentsError as error:
        failure = error.with_traceback(None)
    pagination = envelope.meta.get("pagination")
    seen = Seen(
        question,
        data=envelope.data,
        pagination=pagination if isinstance(pagination, dict) else {},
        failure=failure,
        asked=asked,
    )
    if not answers:
        return seen
    answer, answered, moment = answers[-1]
    # What was sent again was asked later than that: the latest attempt alone tells the time.
    return attrs.evolve(
        seen,
        asked=asked if len(answers) == 1 else None,
        answered=answered,
        moment=moment,
        sent=tally.requests,
        date=answer.date,
        reading=read_limits(answer.headers, answered),
    )


def _noted(
    answers: list[tuple[Answer, datetime, float]], request: Request, answer: Answer, base_url: str
) -> Envelope:
    answers.append((attrs.evolve(answer, body=b""), datetime.now(UTC), anyio.current_time()))
    return read_envelope(request, answer, base_url)
