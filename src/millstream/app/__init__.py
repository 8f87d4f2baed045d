"""What a user declares: streams, handlers, subscriptions and queries. No I/O.

`application` is the object it is declared on, `declarations` what it leaves behind for the worker, `signature` what
a function's parameters get, `payload` how payloads are decoded, `outbox` what a handler publishes, `load` finds
the app that the command line names.
"""

from millstream.app.application import App
from millstream.app.declarations import (
    CATCH_ALL,
    Handler,
    Query,
    Retry,
    Stream,
    Subscription,
)
from millstream.app.load import load_app
from millstream.ledger import DEAD_LETTERS

__all__ = [
    "CATCH_ALL",
    "DEAD_LETTERS",
    "App",
    "Handler",
    "Query",
    "Retry",
    "Stream",
    "Subscription",
    "load_app",
]
