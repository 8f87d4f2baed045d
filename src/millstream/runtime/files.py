"""How many files the system lets a process open: every connection is one."""

from __future__ import annotations

import logging

from millstream.settings import Limits

_log = logging.getLogger(__name__)

_MORE = 1_000  # beside MQTT clients: those that are told that there are too many, HTTP, the log, workers


def allow_connections(limits: Limits) -> None:
    """Raise this process's limit so that `limits.connections` and `limits.readers` can be there; where the system does
    not let it, say how many can. A shell's limit is often 1,024, far below the one up to which it may be raised."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    wanted = limits.connections + limits.readers + _MORE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        _log.warning(
            "the system lets this process open %d files, so that not all of 'limits.connections' (%d) can be there; "
            "raise its limit to %d (ulimit -n, LimitNOFILE of systemd)",
            allowed,
            limits.connections,
            wanted,
        )
