"""Traces of events, from a device to what becomes of what it said.

`context` is W3C Trace Context in an event's headers: it is carried on whether anybody traces or not. `spans` is about
those that Millstream makes, with OpenTelemetry: only who wants them imports it.
"""

from millstream.tracing.context import TRACE_HEADERS, TRACEPARENT, carry, is_sampled, trace_of, traces_of

__all__ = ["TRACEPARENT", "TRACE_HEADERS", "carry", "is_sampled", "trace_of", "traces_of"]
