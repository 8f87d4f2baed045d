"""Between the headers of events and OpenTelemetry's spans."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from millstream.tracing.context import Trace, is_sampled

SYSTEM = {"messaging.system": "millstream"}
"""What every span of ours says of itself (OpenTelemetry's semantic conventions for messaging)."""

MOST_LINKS = 32  # of a span that has many causes; the SDK keeps 128

_W3C = TraceContextTextMapPropagator()


def context_of(trace: Trace) -> Context:
    """The context that headers hold, for the spans that follow from it; one without a parent where they hold none."""
    return _W3C.extract(trace, Context())


def headers_of(span: Span) -> dict[str, str]:
    """The headers that hold a span's context."""
    headers: dict[str, str] = {}
    _W3C.inject(headers, set_span_in_context(span, Context()))
    return headers


def links_to(traces: Iterable[Trace]) -> list[Link]:
    """Links to the first of the contexts that are sampled: the causes of a span that has many."""
    sampled = (trace for trace in traces if is_sampled(trace))
    return [Link(get_current_span(context_of(trace)).get_span_context()) for trace in islice(sampled, MOST_LINKS)]
