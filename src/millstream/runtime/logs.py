"""What the processes tell people: one line an event on standard error, each with the process's name."""

from __future__ import annotations

import logging
import os
import sys

DEBUG = "MILLSTREAM_DEBUG"


class _Formatter(logging.Formatter):
    """What the logger of a handler says also tells whose it is and with which event."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        line = super().formatMessage(record)
        position = getattr(record, "position", None)
        return f"{line} ({record.name} at {position})" if position else line


def set_up_logs(process: str) -> None:
    """Log from this process to standard error: warnings and what people should know; everything with
    `MILLSTREAM_DEBUG=1`."""
    debug = os.environ.get(DEBUG, "") not in ("", "0")
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if debug else logging.INFO,
        force=True,
    )
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Formatter(f"%(asctime)s %(levelname)-7s {process}: %(message)s"))
    if not debug:
        for name in ("asyncio", "watchfiles"):
            logging.getLogger(name).setLevel(logging.WARNING)
