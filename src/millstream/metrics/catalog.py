"""Every metric that there is. `docs/observation.md` says the same in words, and a test holds the two together."""

from __future__ import annotations

from millstream.metrics.metric import Kind, Metric

_all: list[Metric] = []


def _counter(name: str, text: str, *labels: str) -> Metric:
    return _add(Metric(name, Kind.COUNTER, text, labels))


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return _add(Metric(name, Kind.GAUGE, text, labels))


def _histogram(name: str, text: str, *labels: str) -> Metric:
    return _add(Metric(name, Kind.HISTOGRAM, text, labels))


def _add(metric: Metric) -> Metric:
    _all.append(metric)
    return metric


# --- the gateway, since its start

RECEIVED = _counter("millstream_gateway_received_events_total", "Events that came in, by MQTT or HTTP.")
COMMITTED = _counter("millstream_gateway_committed_events_total", "Events that at least one stream captured.")
DUPLICATES = _counter("millstream_gateway_duplicate_events_total", "Events with an id that was committed before.")
TRANSIENT = _counter("millstream_gateway_transient_events_total", "Events that no stream captured: pub/sub only.")
REJECTED = _counter("millstream_gateway_rejected_events_total", "Events that were refused, by reason.", "reason")
DELIVERED = _counter("millstream_gateway_delivered_events_total", "Copies handed to subscribers.")
DROPPED = _counter("millstream_gateway_dropped_events_total", "Copies that a subscriber was too slow or too small for.")
PENDING_EVENTS = _gauge("millstream_gateway_pending_events", "Events that wait for their commit.")
PENDING_BYTES = _gauge("millstream_gateway_pending_bytes", "What they cost in memory.")
CONNECTIONS = _gauge("millstream_gateway_connections", "MQTT clients that are connected.")
SESSIONS = _gauge("millstream_gateway_sessions", "MQTT sessions that are kept beyond their connections.")
RETAINED = _gauge("millstream_gateway_retained_messages", "Topics that have a retained message.")
QUEUED = _counter("millstream_gateway_queued_events_total", "Events that entered the queue of sessions that are kept.")
EXPIRED = _counter(
    "millstream_gateway_expired_events_total",
    "Copies whose Message Expiry Interval passed while they waited for a subscriber.",
)
OVERFLOWED = _counter(
    "millstream_gateway_overflowed_events_total", "Copies that a session that is kept lost: away or slow for too long."
)
THROTTLED = _counter(
    "millstream_gateway_throttled_total", "Times that a client was read more slowly: it sent too much."
)
READERS = _gauge("millstream_gateway_readers", "Those who read streams by HTTP at the moment.")
ENDED = _counter("millstream_gateway_ended_connections_total", "MQTT connections that ended, by reason.", "reason")
COMMIT_SECONDS = _histogram("millstream_gateway_commit_seconds", "From a complete batch to its events on disk.")
COMMIT_EVENTS = _histogram("millstream_gateway_commit_events", "Events that a commit holds.")
DEVICES = _gauge("millstream_devices_connected", "Devices of the registry, and modules, that are connected.")
REFUSED = _counter(
    "millstream_gateway_refused_requests_total",
    "Requests and connections that were refused, by the code of their error; see the audit log.",
    "code",
)
READY = _gauge("millstream_ready", "1 if events can be taken now, else 0, as /health/ready says.")

# --- the log

LOG_STATE = _gauge(
    "millstream_log_state", "1 for the state that the log is in: ready, or waiting for brokers.", "state"
)
SYNC_SECONDS = _histogram(
    "millstream_log_commit_seconds", "Writing a group commit, with its fsync; for gateway and workers."
)
CHECKPOINT_SECONDS = _histogram("millstream_log_checkpoint_seconds", "Copying the write-ahead log into the file.")
WAL_BYTES = _gauge("millstream_log_wal_bytes", "The write-ahead log since it was last begun anew.")
STREAM_EVENTS = _gauge("millstream_stream_events", "Events in a stream.", "stream")
STREAM_BYTES = _gauge("millstream_stream_bytes", "What they take in the file.", "stream")
APPENDED_EVENTS = _counter("millstream_stream_appended_events_total", "Events ever appended to a stream.", "stream")
APPENDED_BYTES = _counter("millstream_stream_appended_bytes_total", "What they took.", "stream")
FIRST_OFFSET = _gauge("millstream_stream_first_offset", "The lowest offset that is still there.", "stream", "partition")
NEXT_OFFSET = _gauge("millstream_stream_next_offset", "The offset that the next record gets.", "stream", "partition")

# --- groups

LAG = _gauge("millstream_group_lag_events", "Events in a stream that a group has not completed.", "group", "stream")
MEMBERS = _gauge("millstream_group_members", "Live members of a group.", "group")
COUNTS = _counter(
    "millstream_group_counts_total",
    "What became of a group's events, by the names that `millstream groups` shows; kept with its position.",
    "group",
    "count",
)

# --- processors, in the workers

CALL_SECONDS = _histogram(
    "millstream_handler_call_seconds",
    "Calls of a handler. Calls that a thread makes in one go count with their mean.",
    "process",
    "group",
)
CALL_EVENTS = _histogram("millstream_handler_call_events", "Events given to a handler in one go.", "process", "group")
ERRORS = _counter(
    "millstream_processor_errors_total",
    "Events that a handler failed with; steps of a query that failed.",
    "process",
    "group",
)
RETRIES = _counter("millstream_processor_retries_total", "Those of them that are tried again.", "process", "group")
SUBSCRIPTION_DROPPED = _counter(
    "millstream_subscription_dropped_events_total",
    "Events that a plain subscription was too slow for.",
    "process",
    "group",
)
STEP_SECONDS = _histogram("millstream_query_step_seconds", "Steps of a query.", "process", "group")
WATERMARK_DELAY = _gauge(
    "millstream_query_watermark_delay_seconds",
    "When the last step was committed: the time then, less the newest event time that the query has seen.",
    "process",
    "group",
)
STATE_BYTES = _gauge(
    "millstream_query_state_bytes",
    "What a query keeps of rows of open windows, or of events that wait, by the place: in memory, or on disk.",
    "process",
    "group",
    "place",
)
PROCESSOR_COMMIT_SECONDS = _histogram(
    "millstream_processor_commit_seconds", "Commits of a processor, over the bus.", "process", "group"
)
PROCESSOR_COMMIT_EVENTS = _histogram(
    "millstream_processor_commit_events", "Events that such a commit completes.", "process", "group"
)

# --- processes

BUILD = _gauge("millstream_build_info", "1, with the server's version.", "version")
WORKERS = _gauge("millstream_workers", "Workers that have joined, by whether they answer at once.", "state")
BUS_DROPPED = _counter(
    "millstream_bus_dropped_events_total",
    "Pub/sub events between server and workers that a process was too slow for.",
    "process",
)
PROCESS = (
    _counter("process_cpu_seconds_total", "User and system CPU time spent.", "process"),
    _gauge("process_resident_memory_bytes", "Resident memory.", "process"),
    _gauge("process_virtual_memory_bytes", "Virtual memory.", "process"),
    _gauge("process_open_fds", "Open file descriptors.", "process"),
    _gauge("process_max_fds", "How many may be open.", "process"),
    _gauge("process_start_time_seconds", "When it began, in seconds since the epoch.", "process"),
)

CATALOG = tuple(_all)
