"""OpenTelemetry in a process: set up where the settings ask for it, and otherwise not even imported.

The SDK reads the standard variables: `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`, ….
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from millstream.errors import SettingsError
from millstream.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.trace import Tracer

_FLUSH_SECONDS = 2.0  # for a collector to take the last spans when a process ends


@contextlib.asynccontextmanager
async def tracing(settings: Settings, process: str) -> AsyncIterator[Tracer | None]:
    """A tracer whose spans go to the OTLP exporter while the block runs; None where the settings ask for none.

    `SettingsError` if they do, and OpenTelemetry is not installed."""
    if not settings.otel.traces:
        yield None
        return
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise missing("otel.traces", error) from None
    provider = TracerProvider(resource=resource(process), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)  # for the application's own spans, and those of libraries
    try:
        yield provider.get_tracer("millstream", version("millstream"))
    finally:
        await at_most(_FLUSH_SECONDS, provider.shutdown)


def missing(setting: str, error: ImportError) -> SettingsError:
    """The error that names the extra."""
    return SettingsError(f"setting '{setting}': {error}; install it with: pip install 'millstream[otel]'")


def resource(process: str) -> Resource:
    """Who tells: the service is `millstream` unless the environment says otherwise."""
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource

    told: dict[str, Any] = {"service.version": version("millstream"), "millstream.process": process}
    found = Resource.create(told)
    if str(found.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        found = found.merge(Resource({SERVICE_NAME: "millstream"}))
    return found


async def at_most(seconds: float, function: Callable[[], Any]) -> None:
    """Call in a thread and wait for it, but no longer than so many seconds. It does not keep the process alive."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def call() -> None:
        try:
            function()
        finally:
            with contextlib.suppress(RuntimeError):  # nobody waits any more
                loop.call_soon_threadsafe(done.set)

    threading.Thread(target=call, name="telemetry", daemon=True).start()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await done.wait()
