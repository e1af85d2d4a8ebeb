"""Spans and the quota metric, as an OpenTelemetry SDK receives them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Histogram, HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from b2b_payments._errors import NotFoundError
from b2b_payments.events import (
    CallEnded,
    CallStarted,
    Event,
    GapRepaired,
    PageJoined,
    QuotaWait,
    QuotaWaitEnded,
    RequestEnded,
    RequestStarted,
    RetryScheduled,
)
from b2b_payments.tracing import OpenTelemetry

PATH = "/ip/payments/70"


@attrs.frozen
class Telemetry:
    """A listener, and what its SDK has received."""

    listener: OpenTelemetry
    provider: TracerProvider
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader

    def send(self, *events: Event) -> None:
        """Send events to the listener."""
        for event in events:
            self.listener(event)

    def spans(self, name: str) -> list[ReadableSpan]:
        """Return the ended spans of this name, in the order in which they ended."""
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def points(self, name: str) -> list[HistogramDataPoint]:
        """Return a histogram's data points, one for each set of attributes."""
        data = self.reader.get_metrics_data()
        if data is None:
            return []
        found = {one.name: one for one in data.resource_metrics[0].scope_metrics[0].metrics}
        if name not in found:
            return []
        assert found[name].unit == "s"
        counted = found[name].data
        assert isinstance(counted, Histogram)
        assert {max(point.explicit_bounds) for point in counted.data_points} == {120}
        return list(counted.data_points)

    def waits(self) -> tuple[int, float]:
        """Return the number of quota waits, and the sum of their seconds."""
        points = self.points("b2b_payments.quota.wait")
        return sum(point.count for point in points), sum(point.sum for point in points)


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    """Yield a listener with an SDK that keeps everything in memory."""
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    listener = OpenTelemetry(tracer_provider=tracers, meter_provider=meters)
    yield Telemetry(listener, tracers, exporter, reader)
    tracers.shutdown()
    meters.shutdown()


def attempt(
    number: int, status: int | None, error: str | None, call_id: int = 1
) -> tuple[RequestStarted, RequestEnded]:
    """Return the two events of an attempt."""
    return (
        RequestStarted("payments.get", "GET", PATH, number, call_id),
        RequestEnded("payments.get", "GET", PATH, number, 0.1, status, error, call_id),
    )


def parent_of(span: ReadableSpan) -> int | None:
    """Return the id of the span's parent."""
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    """Return the span's own id."""
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def test_call_and_attempts_are_nested_spans(telemetry: Telemetry) -> None:
    """Two attempts are client spans below their call's span, which encloses both."""
    telemetry.send(
        CallStarted("payments.get", 1),
        *attempt(1, 500, "ServerError"),
        RetryScheduled("payments.get", 1, 0.5, "failed", 1),
        *attempt(2, 200, None),
        CallEnded("payments.get", 0.7, None, 1),
    )
    [call] = telemetry.spans("payments.get")
    first, second = telemetry.spans("GET /ip/payments/{id}")
    assert parent_of(call) is None
    assert parent_of(first) == parent_of(second) == id_of(call)
    assert (call.kind, first.kind) == (SpanKind.INTERNAL, SpanKind.CLIENT)
    times = [
        call.start_time,
        first.start_time,
        first.end_time,
        second.start_time,
        second.end_time,
        call.end_time,
    ]
    assert times == sorted(time or 0 for time in times)
    assert dict(first.attributes or {}) == {
        "http.request.method": "GET",
        "url.template": "/ip/payments/{id}",
        "b2b_payments.attempt": 1,
        "http.response.status_code": 500,
        "error.type": "ServerError",
    }
    assert dict(second.attributes or {}) == {
        "http.request.method": "GET",
        "url.template": "/ip/payments/{id}",
        "b2b_payments.attempt": 2,
        "http.request.resend_count": 1,
        "http.response.status_code": 200,
    }
    assert [one.status.status_code for one in (first, second, call)] == [
        StatusCode.ERROR,
        StatusCode.UNSET,
        StatusCode.UNSET,
    ]
    [retry] = call.events
    assert (retry.name, dict(retry.attributes or {})) == ("retry", {"delay": 0.5, "reason": "failed"})


def test_failed_call_names_its_error(telemetry: Telemetry) -> None:
    """A failed call has the status ERROR and the error's name, but nothing of its text."""
    telemetry.send(
        CallStarted("payments.get", 1),
        *attempt(1, 404, "NotFoundError"),
        CallEnded("payments.get", 0.1, NotFoundError.__name__, 1),
    )
    [call] = telemetry.spans("payments.get")
    assert call.status.status_code is StatusCode.ERROR
    assert call.status.description is None
    assert dict(call.attributes or {}) == {"error.type": "NotFoundError"}


def test_cancelled_call_is_no_error(telemetry: Telemetry) -> None:
    """A cancelled call ends its spans, without the status ERROR."""
    telemetry.send(
        CallStarted("payments.get", 1),
        *attempt(1, None, "CancelledError"),
        CallEnded("payments.get", 0.1, "CancelledError", 1),
    )
    ended = telemetry.exporter.get_finished_spans()
    assert [span.status.status_code for span in ended] == [StatusCode.UNSET, StatusCode.UNSET]
    assert [dict(span.attributes or {})["error.type"] for span in ended] == ["CancelledError"] * 2


def test_current_span_is_the_parent(telemetry: Telemetry) -> None:
    """The caller's current span is the call's parent."""
    with telemetry.provider.get_tracer("caller").start_as_current_span("nightly job") as job:
        telemetry.send(CallStarted("payments.get", 1), CallEnded("payments.get", 0.1, None, 1))
    [call] = telemetry.spans("payments.get")
    assert parent_of(call) == job.get_span_context().span_id


async def test_concurrent_calls_keep_their_attempts(telemetry: Telemetry) -> None:
    """The interleaved attempts of a hundred concurrent calls each have their own call as parent."""
    turn = asyncio.Barrier(100)

    async def call(call_id: int) -> None:
        name = f"call {call_id}"
        telemetry.send(CallStarted(name, call_id))
        for number in (1, 2):
            await turn.wait()
            started, ended = attempt(number, 200, None, call_id)
            telemetry.send(attrs.evolve(started, method=name))
            await turn.wait()
            telemetry.send(ended)
        telemetry.send(CallEnded(name, 0.1, None, call_id))

    await asyncio.gather(*(call(call_id) for call_id in range(100)))
    for call_id in range(100):
        [span] = telemetry.spans(f"call {call_id}")
        attempts = telemetry.spans(f"call {call_id} /ip/payments/{{id}}")
        assert [parent_of(one) for one in attempts] == [id_of(span)] * 2


def test_attempts_are_measured(telemetry: Telemetry) -> None:
    """Each attempt's seconds are counted by method, template, status and error, without ids."""
    for number, (status, error) in enumerate([(200, None), (200, None), (None, "RequestTimeoutError")]):
        telemetry.send(
            RequestEnded("payments.get", "GET", f"/ip/payments/{number}", 1, 0.5, status, error, number)
        )
    counted = {
        tuple(sorted((point.attributes or {}).items())): (point.count, point.sum)
        for point in telemetry.points("http.client.request.duration")
    }
    usual = {"http.request.method": "GET", "url.template": "/ip/payments/{id}"}
    assert counted == {
        tuple(sorted({**usual, "http.response.status_code": 200}.items())): (2, 1.0),
        tuple(sorted({**usual, "error.type": "RequestTimeoutError"}.items())): (1, 0.5),
    }


def test_quota_waits_are_measured(telemetry: Telemetry) -> None:
    """Each wait is counted once with its seconds, and the call's span has the reasons."""
    assert telemetry.waits() == (0, 0.0)
    telemetry.send(
        CallStarted("payments.get", 1),
        QuotaWait(3.0, "in flight", 1),
        QuotaWait(40.0, "closed", 1),
        QuotaWaitEnded(40.5, 1),
        QuotaWaitEnded(2.0, 2),
        CallEnded("payments.get", 41, None, 1),
    )
    assert telemetry.waits() == (2, 42.5)
    [call] = telemetry.spans("payments.get")
    assert [dict(event.attributes or {}) for event in call.events] == [
        {"at_least": 3.0, "reason": "in flight"},
        {"at_least": 40.0, "reason": "closed"},
    ]


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/ip/payments", "/ip/payments"),
        ("/ip/payments/70/processing-status", "/ip/payments/{id}/processing-status"),
        ("/ip/payments/offline/70", "/ip/payments/offline/{id}"),
        ("/channels", "/channels"),
    ],
)
def test_spans_contain_no_ids(telemetry: Telemetry, path: str, template: str) -> None:
    """Names and attributes contain the path's template, not a payment's id."""
    telemetry.send(
        RequestStarted("x", "PUT", path, 1, 1), RequestEnded("x", "PUT", path, 1, 0.1, 200, None, 1)
    )
    [span] = telemetry.spans(f"PUT {template}")
    assert (span.attributes or {})["url.template"] == template
    assert not [value for value in (span.attributes or {}).values() if "70" in str(value)]


def test_events_of_a_walk_make_no_spans(telemetry: Telemetry) -> None:
    """Joined pages and repaired gaps are not calls."""
    telemetry.send(PageJoined(0, 250, 250, 1000), GapRepaired(200))
    assert telemetry.exporter.get_finished_spans() == ()


def test_end_without_start_is_ignored(telemetry: Telemetry) -> None:
    """A listener that missed the start of a call ignores its end."""
    telemetry.send(
        RetryScheduled("payments.get", 1, 0.5, "failed", 1),
        attempt(2, 200, None)[1],
        CallEnded("payments.get", 0.1, None, 1),
    )
    assert telemetry.exporter.get_finished_spans() == ()


def without_the_extra(script: str) -> str:
    """Run a script without opentelemetry, and return what it prints."""
    hidden = f"import sys; sys.modules['opentelemetry'] = None\n{script}"
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", hidden], capture_output=True, text=True, check=True, cwd=root
    ).stdout.strip()


def test_missing_extra_is_one_sentence() -> None:
    """Without the extra `otel`, the constructor's error says what to install."""
    script = """
from b2b_payments import ConfigurationError
from b2b_payments.tracing import OpenTelemetry
try:
    OpenTelemetry()
except ConfigurationError as error:
    print(error, error.__cause__)
"""
    said = "OpenTelemetry() needs opentelemetry-api: pip install 'b2b-payments[otel]'. None"
    assert without_the_extra(script) == said


def test_global_providers_are_the_default(monkeypatch: pytest.MonkeyPatch, telemetry: Telemetry) -> None:
    """Without explicit providers, the listener uses the program's global ones."""
    monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", lambda: telemetry.provider)
    listener = OpenTelemetry()
    listener(CallStarted("payments.get", 1))
    listener(CallEnded("payments.get", 0.1, None, 1))
    assert telemetry.spans("payments.get")
