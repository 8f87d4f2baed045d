"""Runs an app's processors: reads, steps, commits; handlers, retries, dead letters.

`worker` is one instance of an app. `handler` runs a handler with `calls` (what is called now), `lanes` (order per key),
`committer` and `progress` (what is completed); `call` is how a function is called, `bisect` what is done about a batch
that fails. `function` is what is called: with `arguments` from the event, what is `given` to the handler, and what is
made for the event (`making`); `resources` are open as long as the worker. `query` runs the engine, `subscriber` plain
pub/sub; `topics` is what a worker asks of it, and `watch` what it tells of its calls.
"""

from millstream.worker.measures import Measures
from millstream.worker.resources import Resources
from millstream.worker.topics import Topics, TopicSubscription
from millstream.worker.watch import Failure, Watch
from millstream.worker.worker import Worker

__all__ = ["Failure", "Measures", "Resources", "TopicSubscription", "Topics", "Watch", "Worker"]
