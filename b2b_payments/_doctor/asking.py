"""Sends the questions of an examination: the only part of it that does I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import anyio
import attrs

from b2b_payments._call import Caller, Spent
from b2b_payments._client import PaymentsClient
from b2b_payments._doctor.evidence import Auth, Evidence, NotSentError, Observation, Question
from b2b_payments._doctor.questions import examination
from b2b_payments._errors import B2BPaymentsError
from b2b_payments._protocol.answer import Answer, Envelope, read_envelope
from b2b_payments._protocol.limits import read_limits
from b2b_payments._protocol.request import Request
from b2b_payments._quota import Quota
from b2b_payments._retry import RetryPolicy

MAX_REQUESTS = 32
"""The most requests of an examination, retries included."""
_MAX_PER_QUESTION = 4
"""Requests that a question may need: up to three to read a payment by its id, and one retry."""


async def examine(auth: Auth, others: Sequence[Auth], settings: Mapping[str, Any]) -> Evidence:
    """Send the questions. `settings` are those of a client; `others` are tried if `auth` does not work.

    Only read requests are sent, at most `MAX_REQUESTS`. Raises ConfigurationError for invalid settings; a
    failed request is evidence.
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
            caller = clients[id(auth)]._caller  # noqa: SLF001 - it sends requests that the client does not offer
            observation = await _ask(attrs.evolve(caller, tally=tally), question)
            evidence.by_name[question.name] = observation
            evidence.requests = tally.requests
            try:
                question = questions.send(observation)
            except StopIteration:
                return evidence


async def _ask(caller: Caller, question: Question) -> Observation:
    tally = caller.tally
    if tally.requests + _MAX_PER_QUESTION > MAX_REQUESTS:
        return Observation(question, failure=NotSentError("The limit of requests was reached."))
    responses: list[dict[str, Any]] = []

    def read(request: Request, answer: Answer, base_url: str) -> Envelope:
        received_at = datetime.now(UTC)
        responses.append(
            {
                "received_at": received_at,
                "monotonic": anyio.current_time(),
                "date": answer.date,
                "reading": read_limits(answer.headers, received_at),
            }
        )
        return read_envelope(request, answer, base_url)

    sent_at = datetime.now(UTC)
    envelope, failure = Envelope(None, {}), None
    try:
        envelope = await caller.read(question.request, read)
    except B2BPaymentsError as error:
        failure = error.with_traceback(None)
    pagination = envelope.meta.get("pagination")
    return Observation(
        question,
        data=envelope.data,
        pagination=pagination if isinstance(pagination, dict) else {},
        failure=failure,
        # After a retry, it is unknown when the last attempt was sent.
        sent_at=sent_at if len(responses) < 2 else None,
        requests_so_far=tally.requests if responses else 0,
        **(responses[-1] if responses else {}),
    )
