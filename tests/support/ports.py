"""Ports for servers that are killed and started again."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

_given: set[int] = set()


def reserved_port() -> int:
    """A free TCP port that the system gives to nobody who asks for any port, and that was not given here before. So a
    server that is killed and started again finds it free, and in between its clients find nobody else there: not even
    themselves, as one may who tries again and again to connect to a port that the system may give to him."""
    given = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first_given = int(given.read_text().split()[0]) if given.exists() else 49_152  # where IANA's range begins
    while True:
        port = random.randrange(10_000, first_given)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port
