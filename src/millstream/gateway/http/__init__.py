"""The gateway's HTTP side. Each part of it is a file with one noun, that has its `routes`; `api` puts them together."""

from millstream.gateway.http.access import Access
from millstream.gateway.http.api import Part, make_app
from millstream.gateway.http.audit import Audit
from millstream.gateway.http.body import Bodies
from millstream.gateway.http.events import Events
from millstream.gateway.http.groups import Groups
from millstream.gateway.http.health import Health
from millstream.gateway.http.members import Members
from millstream.gateway.http.metrics import Metrics
from millstream.gateway.http.openapi import OpenApi
from millstream.gateway.http.pages import Pages
from millstream.gateway.http.publishing import Publishing
from millstream.gateway.http.readers import Readers
from millstream.gateway.http.server import HttpServer
from millstream.gateway.http.sockets import Sockets
from millstream.gateway.http.status import Status
from millstream.gateway.http.streams import Streams
from millstream.gateway.http.tails import Tails

__all__ = [
    "Access",
    "Audit",
    "Bodies",
    "Events",
    "Groups",
    "Health",
    "HttpServer",
    "Members",
    "Metrics",
    "OpenApi",
    "Pages",
    "Part",
    "Publishing",
    "Readers",
    "Sockets",
    "Status",
    "Streams",
    "Tails",
    "make_app",
]
