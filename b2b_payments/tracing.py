"""Spans and metrics for OpenTelemetry, made from the client's events.

::

    async with PaymentsClient(auth, on_event=OpenTelemetry()) as client: ...

Needs the extra `otel`. No span or metric contains a query, a credential, a body or a payment's id.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from b2b_payments._errors import ConfigurationError
from b2b_payments._version import __version__
from b2b_payments.events import (
    CallEnded,
    CallStarted,
    Event,
    QuotaWait,
    QuotaWaitEnded,
    RequestEnded,
    RequestStarted,
    RetryScheduled,
)

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

_NUMBER = re.compile(r"/[0-9]+")
# Seconds; the last ones cover waits for a quota window.
_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0)
# The caller stopped waiting: nothing failed.
_CANCELLED = frozenset({"CancelledError", "GeneratorExit"})


class OpenTelemetry:
    """A listener that creates a span for each call and, below it, each attempt, and histograms of durations.

    - A call's span is named after the endpoint, such as ``payments.get``. Its parent is the span that was
      current when the call was awaited or the walk's loop began. Its events ``retry`` and ``quota wait``
      explain delays.
    - An attempt's span has the kind CLIENT and a name such as ``GET /ip/payments/{id}``, with
      `http.request.method`, `url.template`, `http.response.status_code`, `b2b_payments.request_id`,
      `b2b_payments.attempt` (from 1), and `http.request.resend_count` from the second attempt on.
    - `error.type` is the name of the error that ended the span. A cancelled span does not have status ERROR.
    - Two histograms in seconds: `http.client.request.duration` of attempts, by method, template, status and
      `error.type`, and `b2b_payments.quota.wait` of waits for the store's quota.

    One listener may serve several clients. The providers default to the global ones.
    Raises ConfigurationError if the extra is missing.
    """

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        try:
            from opentelemetry import metrics, trace  # noqa: PLC0415 - an extra
        except ModuleNotFoundError:
            raise ConfigurationError(
                "OpenTelemetry() needs opentelemetry-api: pip install 'b2b-payments[otel]'."
            ) from None
        self._trace = trace
        self._tracer = trace.get_tracer("b2b_payments", __version__, tracer_provider)
        meter = metrics.get_meter("b2b_payments", __version__, meter_provider)
        self._durations = meter.create_histogram(
            "http.client.request.duration",
            unit="s",
            description="Attempts",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self._waits = meter.create_histogram(
            "b2b_payments.quota.wait",
            unit="s",
            description="Waits for the store's quota",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self._calls: dict[int, Span] = {}
        self._attempts: dict[int, Span] = {}  # a call makes one attempt at a time

    def __call__(self, event: Event) -> None:
        """Process an event."""
        match event:
            case CallStarted():
                self._calls[event.call_id] = self._tracer.start_span(event.call)
            case CallEnded():
                self._end(self._calls.pop(event.call_id, None), event.error)
            case RequestStarted():
                self._begin(event)
            case RequestEnded():
                self._durations.record(event.elapsed, _labels(event))
                self._end(
                    self._attempts.pop(event.call_id, None), event.error, event.status, event.request_id
                )
            case RetryScheduled():
                self._note(event.call_id, "retry", {"delay": event.delay, "reason": event.reason})
            case QuotaWait():
                self._note(event.call_id, "quota wait", {"at_least": event.seconds, "reason": event.reason})
            case QuotaWaitEnded():
                self._waits.record(event.seconds)
            case _:
                pass  # an event of a walk, not of a call

    def _begin(self, event: RequestStarted) -> None:
        trace, template = self._trace, _template(event)
        attributes: dict[str, str | int] = {
            "http.request.method": event.method,
            "url.template": template,
            "b2b_payments.attempt": event.attempt,
        }
        if event.attempt > 1:
            attributes["http.request.resend_count"] = event.attempt - 1
        call = self._calls.get(event.call_id)
        self._attempts[event.call_id] = self._tracer.start_span(
            f"{event.method} {template}",
            context=None if call is None else trace.set_span_in_context(call),
            kind=trace.SpanKind.CLIENT,
            attributes=attributes,
        )

    def _end(
        self, span: Span | None, error: str | None, status: int | None = None, request_id: str | None = None
    ) -> None:
        if span is None:
            return
        if request_id is not None:
            span.set_attribute("b2b_payments.request_id", request_id)
        if status is not None:
            span.set_attribute("http.response.status_code", status)
        if error is not None:
            span.set_attribute("error.type", error)
            if error not in _CANCELLED:
                span.set_status(self._trace.StatusCode.ERROR)
        span.end()

    def _note(self, call_id: int, name: str, attributes: dict[str, str | float]) -> None:
        if (call := self._calls.get(call_id)) is not None:
            call.add_event(name, attributes)


def _template(event: RequestStarted | RequestEnded) -> str:
    return _NUMBER.sub("/{id}", event.path)


def _labels(event: RequestEnded) -> dict[str, str | int]:
    labels = {
        "http.request.method": event.method,
        "url.template": _template(event),
        "http.response.status_code": event.status,
        "error.type": event.error,
    }
    return {name: value for name, value in labels.items() if value is not None}
