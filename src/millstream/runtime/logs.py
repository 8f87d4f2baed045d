"""What the processes tell people: one line an event on standard error, each with the process's name."""

from __future__ import annotations

import logging
import os
import sys

DEBUG = "MILLSTREAM_DEBUG"


def set_up_logs(process: str) -> None:
    """Log from this process to standard error: warnings and what people should know; everything with
    `MILLSTREAM_DEBUG=1`."""
    debug = os.environ.get(DEBUG, "") not in ("", "0")
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if debug else logging.INFO,
        format=f"%(asctime)s %(levelname)-7s {process}: %(message)s",
        force=True,
    )
    if not debug:
        logging.getLogger("asyncio").setLevel(logging.WARNING)
