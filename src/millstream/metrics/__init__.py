"""What Millstream measures of itself, and how it is told.

`catalog` names every metric. A part of a process counts in plain numbers and `Histogram`s, once a batch and never once
an event, and adds them to a `Reading` when somebody asks. Readings travel over the bus, so that the server tells what
its workers measure. `exposition` writes a reading as Prometheus reads it; `process` measures the process itself.
"""

from millstream.metrics.histogram import Distribution, Histogram
from millstream.metrics.metric import Kind, Metric
from millstream.metrics.reading import Reading, Source, Sources

__all__ = ["Distribution", "Histogram", "Kind", "Metric", "Reading", "Source", "Sources"]
