"""What a user declares: streams, handlers, subscriptions, queries and reference data. No I/O but to look at that.

`application` is the object it is declared on, `declarations` what it leaves behind for the worker. `signature` and
`reader` find what a function's parameters get, and `parameter` holds it; `depends` and `lifespan` are the user's own to
inject, `payload` is how payloads are decoded, `state` what is kept of keys, `outbox` what a handler publishes,
`devices` what it calls devices by. `references` looks at reference data, `planning` makes plans of the queries, `load`
finds the app that the command line names; `review` what is wrong with all of it together, and `asyncapi` describes it
with the `schemas` of payloads.
"""

from millstream.app.application import App
from millstream.app.declarations import (
    CATCH_ALL,
    Handler,
    Query,
    Reference,
    Retry,
    Stream,
    Subscription,
)
from millstream.app.depends import Depends
from millstream.app.devices import Answer, Device, Devices
from millstream.app.load import load_app
from millstream.app.state import State
from millstream.ledger import DEAD_LETTERS

__all__ = [
    "CATCH_ALL",
    "DEAD_LETTERS",
    "Answer",
    "App",
    "Depends",
    "Device",
    "Devices",
    "Handler",
    "Query",
    "Reference",
    "Retry",
    "State",
    "Stream",
    "Subscription",
    "load_app",
]
