"""Spans of real calls and walks on a real socket."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from b2b_payments import PaymentsClient, Quota
from b2b_payments.events import CallStarted, Event, QuotaWait, QuotaWaitEnded, RequestStarted
from b2b_payments.sandbox import Fault, Rules, Sandbox
from b2b_payments.tracing import OpenTelemetry
from tests.support.clients import client_of
from tests.support.virtual_time import run


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """Return a collector of ended spans."""
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> TracerProvider:
    """Return the SDK's tracer provider."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


def children(spans: tuple[ReadableSpan, ...], parent: ReadableSpan) -> list[ReadableSpan]:
    """Return a span's direct children."""
    context = parent.get_span_context()
    assert context is not None
    return [span for span in spans if span.parent is not None and span.parent.span_id == context.span_id]


def named(spans: tuple[ReadableSpan, ...], name: str) -> list[ReadableSpan]:
    """Return the spans of this name."""
    return [span for span in spans if span.name == name]


async def test_concurrent_calls_have_their_own_spans(
    exporter: InMemorySpanExporter, provider: TracerProvider
) -> None:
    """Of twenty concurrent calls, a third with bad answers, each attempt is below its own call."""
    tracer = provider.get_tracer("caller")

    async def job(client: PaymentsClient, number: int) -> None:
        with tracer.start_as_current_span(f"job {number}"):
            await client.payments.get(number)

    async with Sandbox(60) as sandbox:
        sandbox.order(Fault.ERROR_503, share=1 / 3)
        sandbox.order(Fault.RESET_BEFORE, share=1 / 3)
        listener = OpenTelemetry(tracer_provider=provider)
        async with client_of(sandbox, on_event=listener) as client:
            results = await asyncio.gather(
                *(job(client, number) for number in range(1, 21)), return_exceptions=True
            )
    spans = exporter.get_finished_spans()
    for number, result in enumerate(results, start=1):
        [one] = named(spans, f"job {number}")
        [call] = children(spans, one)
        assert call.name == "payments.get"
        assert call.status.is_ok or result is not None
        attempts = children(spans, call)
        assert [(span.attributes or {})["b2b_payments.attempt"] for span in attempts] == list(
            range(1, len(attempts) + 1)
        )
        assert len(call.events) == len(attempts) - 1
    assert len(named(spans, "GET /ip/payments/{id}")) == sandbox.request_count


async def test_pages_of_a_walk_have_the_loops_span_as_parent(
    exporter: InMemorySpanExporter, provider: TracerProvider
) -> None:
    """Pages prefetched by background tasks have the span around the loop as their calls' parent."""
    async with Sandbox(200) as sandbox:
        listener = OpenTelemetry(tracer_provider=provider)
        async with client_of(sandbox, on_event=listener) as client:
            with provider.get_tracer("caller").start_as_current_span("walk"):
                assert len(await client.payments.list(page_size=25, concurrency=4).collect()) == 200
            with provider.get_tracer("caller").start_as_current_span("stream"):
                stream = client.payments.stream(channel_ids=[1, 2, 3], page_size=25, concurrency=2)
                assert len(await stream.collect()) == 200
    spans = exporter.get_finished_spans()
    [walk], [stream_span] = named(spans, "walk"), named(spans, "stream")
    pages = children(spans, walk) + children(spans, stream_span)
    assert Counter(span.name for span in pages) == {"payments.list": sandbox.request_count}
    assert len(children(spans, walk)) > 8


async def test_spans_of_a_walk_left_early_end(
    exporter: InMemorySpanExporter, provider: TracerProvider
) -> None:
    """A loop that is left early leaves no span open."""
    trace, begun = OpenTelemetry(tracer_provider=provider), 0

    def listen(event: Event) -> None:
        nonlocal begun
        begun += isinstance(event, CallStarted | RequestStarted)
        trace(event)

    async with Sandbox(200) as sandbox, client_of(sandbox, on_event=listen) as client:
        async for _ in client.payments.list(page_size=10, concurrency=4):
            break
    assert len(exporter.get_finished_spans()) == begun > 4


def test_longer_wait_is_reported_again() -> None:
    """A call that waits for another's answer reports a new wait when that one is refused."""
    events: list[Event] = []

    async def main() -> None:
        async with Sandbox(3, rules=Rules(quota=False, refusal_wait=20)) as sandbox:
            sandbox.order(Fault.RATE_LIMITED, times=1)
            async with client_of(sandbox, quota=Quota(), on_event=events.append) as client:
                await asyncio.gather(client.payments.get(1), client.payments.get(2))

    run(main())
    second = [event for event in events if isinstance(event, QuotaWait | QuotaWaitEnded)]
    waits = [event for event in second if event.call_id == second[0].call_id]
    reasons = [event.reason for event in waits if isinstance(event, QuotaWait)]
    assert reasons[:2] == ["in flight", "closed"]
    closed, ended = waits[1], waits[-1]
    assert 20 <= closed.seconds <= ended.seconds <= 25
    assert isinstance(ended, QuotaWaitEnded)
