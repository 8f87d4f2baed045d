"""Every metric that there is. `docs/observation.md` says the same in words, and a test holds the two together."""

from __future__ import annotations

from millstream.metrics.metric import Kind, Metric

# --- the gateway, since its start

RECEIVED = Metric("millstream_gateway_received_events_total", Kind.COUNTER, "Events that came in, by MQTT or HTTP.")
COMMITTED = Metric(
    "millstream_gateway_committed_events_total", Kind.COUNTER, "Events that at least one stream captured."
)
DUPLICATES = Metric(
    "millstream_gateway_duplicate_events_total", Kind.COUNTER, "Events with an id that was committed before."
)
TRANSIENT = Metric(
    "millstream_gateway_transient_events_total", Kind.COUNTER, "Events that no stream captured: pub/sub only."
)
REJECTED = Metric(
    "millstream_gateway_rejected_events_total", Kind.COUNTER, "Events that were refused, by reason.", ("reason",)
)
DELIVERED = Metric("millstream_gateway_delivered_events_total", Kind.COUNTER, "Copies handed to subscribers.")
DROPPED = Metric(
    "millstream_gateway_dropped_events_total", Kind.COUNTER, "Copies that a subscriber was too slow or too small for."
)
PENDING_EVENTS = Metric("millstream_gateway_pending_events", Kind.GAUGE, "Events that wait for their commit.")
PENDING_BYTES = Metric("millstream_gateway_pending_bytes", Kind.GAUGE, "What they cost in memory.")
CONNECTIONS = Metric("millstream_gateway_connections", Kind.GAUGE, "MQTT clients that are connected.")
ENDED = Metric(
    "millstream_gateway_ended_connections_total", Kind.COUNTER, "MQTT connections that ended, by reason.", ("reason",)
)
COMMIT_SECONDS = Metric(
    "millstream_gateway_commit_seconds", Kind.HISTOGRAM, "From a complete batch to its events on disk."
)
COMMIT_EVENTS = Metric("millstream_gateway_commit_events", Kind.HISTOGRAM, "Events that a commit holds.")
READY = Metric("millstream_ready", Kind.GAUGE, "1 if events can be taken now, else 0, as /health/ready says.")

# --- the log

SYNC_SECONDS = Metric(
    "millstream_log_commit_seconds", Kind.HISTOGRAM, "Writing a group commit, with its fsync; for gateway and workers."
)
CHECKPOINT_SECONDS = Metric(
    "millstream_log_checkpoint_seconds", Kind.HISTOGRAM, "Copying the write-ahead log into the file."
)
WAL_BYTES = Metric("millstream_log_wal_bytes", Kind.GAUGE, "The write-ahead log since it was last begun anew.")
STREAM_EVENTS = Metric("millstream_stream_events", Kind.GAUGE, "Events in a stream.", ("stream",))
STREAM_BYTES = Metric("millstream_stream_bytes", Kind.GAUGE, "What they take in the file.", ("stream",))
APPENDED_EVENTS = Metric(
    "millstream_stream_appended_events_total", Kind.COUNTER, "Events ever appended to a stream.", ("stream",)
)
APPENDED_BYTES = Metric("millstream_stream_appended_bytes_total", Kind.COUNTER, "What they took.", ("stream",))
FIRST_OFFSET = Metric(
    "millstream_stream_first_offset", Kind.GAUGE, "The lowest offset that is still there.", ("stream", "partition")
)
NEXT_OFFSET = Metric(
    "millstream_stream_next_offset", Kind.GAUGE, "The offset that the next record gets.", ("stream", "partition")
)

# --- groups

LAG = Metric(
    "millstream_group_lag_events", Kind.GAUGE, "Events in a stream that a group has not completed.", ("group", "stream")
)
MEMBERS = Metric("millstream_group_members", Kind.GAUGE, "Live members of a group.", ("group",))
COUNTS = Metric(
    "millstream_group_counts_total",
    Kind.COUNTER,
    "What became of a group's events, by the names that `millstream groups` shows; kept with its position.",
    ("group", "count"),
)

# --- processors, in the workers

CALL_SECONDS = Metric(
    "millstream_handler_call_seconds",
    Kind.HISTOGRAM,
    "Calls of a handler. Calls that a thread makes in one go count with their mean.",
    ("process", "group"),
)
CALL_EVENTS = Metric(
    "millstream_handler_call_events", Kind.HISTOGRAM, "Events given to a handler in one go.", ("process", "group")
)
ERRORS = Metric(
    "millstream_processor_errors_total",
    Kind.COUNTER,
    "Events that a handler failed with; steps of a query that failed.",
    ("process", "group"),
)
RETRIES = Metric(
    "millstream_processor_retries_total", Kind.COUNTER, "Those of them that are tried again.", ("process", "group")
)
SUBSCRIPTION_DROPPED = Metric(
    "millstream_subscription_dropped_events_total",
    Kind.COUNTER,
    "Events that a plain subscription was too slow for.",
    ("process", "group"),
)
STEP_SECONDS = Metric("millstream_query_step_seconds", Kind.HISTOGRAM, "Steps of a query.", ("process", "group"))
WATERMARK_DELAY = Metric(
    "millstream_query_watermark_delay_seconds",
    Kind.GAUGE,
    "When the last step was committed: the time then, less the newest event time that the query has seen.",
    ("process", "group"),
)
PROCESSOR_COMMIT_SECONDS = Metric(
    "millstream_processor_commit_seconds", Kind.HISTOGRAM, "Commits of a processor, over the bus.", ("process", "group")
)
PROCESSOR_COMMIT_EVENTS = Metric(
    "millstream_processor_commit_events", Kind.HISTOGRAM, "Events that such a commit completes.", ("process", "group")
)

# --- processes

BUILD = Metric("millstream_build_info", Kind.GAUGE, "1, with the server's version.", ("version",))
WORKERS = Metric(
    "millstream_workers", Kind.GAUGE, "Workers that have joined, by whether they answer at once.", ("state",)
)
BUS_DROPPED = Metric(
    "millstream_bus_dropped_events_total",
    Kind.COUNTER,
    "Pub/sub events between server and workers that a process was too slow for.",
    ("process",),
)
PROCESS = (
    Metric("process_cpu_seconds_total", Kind.COUNTER, "User and system CPU time spent.", ("process",)),
    Metric("process_resident_memory_bytes", Kind.GAUGE, "Resident memory.", ("process",)),
    Metric("process_virtual_memory_bytes", Kind.GAUGE, "Virtual memory.", ("process",)),
    Metric("process_open_fds", Kind.GAUGE, "Open file descriptors.", ("process",)),
    Metric("process_max_fds", Kind.GAUGE, "How many may be open.", ("process",)),
    Metric("process_start_time_seconds", Kind.GAUGE, "When it began, in seconds since the epoch.", ("process",)),
)

CATALOG: tuple[Metric, ...] = (
    *(one for one in list(globals().values()) if isinstance(one, Metric)),
    *PROCESS,
)
