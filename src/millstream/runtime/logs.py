"""What the processes tell: one line an event on standard error, for people, or as JSON for machines."""

from __future__ import annotations

import logging
import os
import sys
import threading
from types import TracebackType
from typing import Any

import msgspec

from millstream.clock import Clock, SystemClock, to_text

DEBUG = "MILLSTREAM_DEBUG"
FORMAT = "MILLSTREAM_LOGGING__FORMAT"

_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Formatter(logging.Formatter):
    """What the logger of a handler says also tells whose it is and with which event."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        line = super().formatMessage(record)
        position = getattr(record, "position", None)
        return f"{line} ({record.name} at {position})" if position else line


def set_up_logs(process: str) -> None:
    """Log from this process to standard error: warnings and what people should know; everything with
    `MILLSTREAM_DEBUG=1`. The environment says in which format, so that children have that of their supervisor."""
    debug = os.environ.get(DEBUG, "") not in ("", "0")
    handler = logging.StreamHandler(sys.stderr)
    if os.environ.get(FORMAT) == "json":
        handler.setFormatter(JsonFormatter(process, SystemClock()))
        _log_what_others_print()
    else:
        handler.setFormatter(_Formatter(f"%(asctime)s %(levelname)-7s {process}: %(message)s"))
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[handler], force=True)
    if not debug:
        for name in ("alembic", "asyncio", "watchfiles"):
            logging.getLogger(name).setLevel(logging.WARNING)


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: `time` (RFC 3339, UTC), `level`, `logger`, `process`, `message`; `exception` where
    there is one, `trace_id` and `span_id` within a span; then the fields that the caller gave as `extra`, as JSON or as
    Python shows them."""

    def __init__(self, process: str, clock: Clock) -> None:
        super().__init__()
        self._process = process
        self._clock = clock

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": to_text(self._clock.now()),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": self._process,
            "message": _text(record.getMessage()),
        }
        if record.exc_info and record.exc_info[1] is not None:
            told["exception"] = _text(self.formatException(record.exc_info))
        if record.stack_info:
            told["stack"] = _text(record.stack_info)
        told |= _span()
        for name, value in vars(record).items():
            if name not in _OF_EVERY_RECORD:
                told.setdefault(_text(name), _json(value))
        return msgspec.json.encode(told).decode()


def _text(text: str) -> str:
    """What UTF-8 can hold: lone surrogates come from names of files that are not."""
    return text.encode(errors="backslashreplace").decode()


def _json(value: object) -> msgspec.Raw | str:
    try:
        return msgspec.Raw(msgspec.json.encode(value, enc_hook=repr))
    except (TypeError, ValueError, RecursionError):  # keys that are no text, text that is no Unicode, a loop
        return _text(repr(value))


def _span() -> dict[str, str]:
    """The span that is the current one, by the names that OpenTelemetry has for it in logs."""
    trace = sys.modules.get("opentelemetry.trace")  # nobody has begun a span who has not imported it
    context = None if trace is None else trace.get_current_span().get_span_context()
    if context is None or not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def _log_what_others_print() -> None:
    """Warnings of Python, and errors that nobody caught, go to the log as well: every line is JSON."""
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda its: _log_uncaught(its.exc_type, its.exc_value, its.exc_traceback)


def _log_uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if error is None or issubclass(kind, KeyboardInterrupt | SystemExit):
        return
    logging.getLogger("millstream").critical("an error that nobody caught", exc_info=(kind, error, trace))
