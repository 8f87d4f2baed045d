"""The object on which a user declares streams, handlers, subscriptions and queries.

Declaring does no I/O and starts nothing: a worker runs what is declared here. What is wrong with one declaration
alone is an `AppError` at its line; what only the whole app can tell (a query over a stream that is declared further
down) is told by `plan`, all of it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from millstream.app import outbox
from millstream.app.checks import (
    check_concurrency,
    check_early,
    check_grace,
    check_name,
    check_payload,
    check_retry,
    check_start,
    common_names,
    group_name,
    parse_filter,
    parse_into,
    shadow_problems,
)
from millstream.app.declarations import (
    CATCH_ALL,
    Handler,
    Query,
    Reference,
    Retry,
    Stream,
    Subscription,
)
from millstream.app.fluent import Options
from millstream.app.function import name_of
from millstream.app.lifespan import Lifespan, read_lifespan
from millstream.app.parameter import Signature
from millstream.app.place import Place, caller, place_of
from millstream.app.planning import plans_of, result_problems
from millstream.app.problems import declaring
from millstream.app.references import check_refresh, reference_source
from millstream.app.review import review
from millstream.app.signature import overridden, read_signature, read_wake
from millstream.app.statements import queries_of
from millstream.duration import Duration
from millstream.errors import AppError, TopicError
from millstream.ledger import DEAD_LETTERS
from millstream.log import LATEST, Router, StreamSpec
from millstream.log.contract import Start
from millstream.reference import stream_of
from millstream.topic import Filter

if TYPE_CHECKING:
    from millstream.allocation import Registration
    from millstream.engine import WindowPlan
    from millstream.testing import Plant

F = TypeVar("F", bound=Callable[..., Any])


class App:
    """An application: what it is called, and what it declares.

    `catch_all`: a stream `events` captures every topic that does not begin with `$`; handlers that are declared with
    a topic filter read it.

    `lifespan`: a function that takes the app and gives an asynchronous context manager. Every worker process enters it
    before its handlers are called, and leaves it after the last call. A parameter annotated with the type of what it
    yields gets that.

    `version` is told by the AsyncAPI document.

    `dependency_overrides`: factories of dependencies, and what makes the value instead: for tests.
    """

    def __init__(
        self, name: str, *, catch_all: bool = True, lifespan: Lifespan | None = None, version: str = "0.1.0"
    ) -> None:
        frame = caller(1)
        if not name:
            raise AppError(f"{place_of(frame)}: an app needs a name, for example App('plant')")
        self.name = name
        self.version = version
        self.catch_all = catch_all
        self.lifespan, self._state = read_lifespan(lifespan, frame.f_locals, f"{place_of(frame)}: App({name!r})")
        self.dependency_overrides: dict[Callable[..., Any], Callable[..., Any]] = {}
        self.handlers: list[Handler] = []
        self.subscriptions: list[Subscription] = []
        self.queries: list[Query] = []
        self.references: dict[str, Reference] = {}
        self.allocators: dict[str, Callable[[Registration], Any]] = {}
        self._streams: dict[str, Stream] = {}
        self._wrong: set[str] = set()  # streams that are left out because they are wrong, where that is not raised
        self._results: dict[str, str] = {}  # streams that queries imply by publishing on a topic of that name
        if catch_all:
            self._streams[CATCH_ALL] = self._stream_of(CATCH_ALL, ("#",))

    def __repr__(self) -> str:
        return f"App({self.name!r})"

    @property
    def streams(self) -> dict[str, StreamSpec]:
        """Every stream that the app needs, by name: declared, of its queries' results, of the versions of reference
        data, and for dead letters."""
        specs = {name: stream.spec for name, stream in self._streams.items()}
        for topic in self._results:
            specs.setdefault(topic, StreamSpec(topic, (topic,)))
        for name in map(stream_of, self.references):
            specs[name] = StreamSpec(name, partitions=1)
        specs.setdefault(DEAD_LETTERS, StreamSpec(DEAD_LETTERS))
        return specs

    def stream(
        self,
        name: str,
        topics: str | Sequence[str],
        *,
        key: str | None = None,
        partitions: int = 8,
        retention_age: timedelta | None = None,
        retention_bytes: int | None = None,
        payload: Any = None,
    ) -> Stream:
        """Declare a stream that captures `topics` (one filter or several, names in braces allowed).

        `key` is a name that every filter has; events of one key are in order. Without it the key is the event's own,
        else its topic. `payload` is the type of its payloads: it gives queries their columns' types. Key and
        partitions cannot be changed later. Raises `AppError`.
        """
        place = place_of(caller(1))
        filters = (topics,) if isinstance(topics, str) else tuple(topics)
        spec = StreamSpec(name, filters, key, partitions, retention_age, retention_bytes)
        stream = Stream(spec, payload, place, self._declare_query)
        with declaring(self._wrong, name):
            self._check_stream(stream, f"{place}: stream {name!r}")
            self._streams[name] = stream
        return stream

    def reference(
        self,
        name: str,
        source: str | Path,
        *,
        select: str | None = None,
        refresh: Duration | None = None,
        types: Mapping[str, str] | None = None,
    ) -> Reference:
        """Declare reference data, which queries join their events with: `JOIN machines m ON t.machine = m.id`.

        `source` is a `.csv`, `.tsv` or `.parquet` file, beside the file that declares it unless the path is absolute,
        or the SQLAlchemy URL of a database. There `select` is what is asked (by default everything of the table
        `name`). Or it is `"registry"`: the devices, with their `tags`, `desired` and `reported` properties; there
        `select` is a query that says which. It is read at start and then every `refresh` (by default every minute; the
        registry after 10 s, if it has changed); every content that differs is a version, which is kept in the log.
        `types` are DuckDB types of columns that are not what the file looks like
        (`{"serial": "VARCHAR"}`). Raises `AppError`."""
        place = place_of(caller(1))
        where = f"{place}: reference {name!r}"
        with declaring(self._wrong, name):
            check_name(name, where)
            if name in self.references or name in self._streams:
                raise AppError(f"{where}: {name!r} is declared already; queries could not tell them apart")
            its = reference_source(name, source, select, types, place)
            reference = Reference(name, its, check_refresh(refresh, its, where), place)
            self.references[name] = reference
        return reference

    def allocate(self, enrollment: str) -> Callable[[F], F]:
        """Declare the function that decides about devices which register by an enrollment with `allocate`. It gets a
        `Registration`, and returns an `Allocation` (merge patches of tags and desired), or None: as the enrollment
        says. It refuses with a `RegistrationError`. Raises `AppError`."""
        place = place_of(caller(1))
        if enrollment in self.allocators:
            raise AppError(f"{place}: another function decides about enrollment {enrollment!r} already")

        def declare(function: F) -> F:
            self.allocators[enrollment] = function
            return function

        return declare

    def on(
        self,
        source: str | Stream,
        *,
        concurrency: int | None = None,
        retry: Retry | None = None,
        group: str | None = None,
        start: Start = LATEST,
        batch: bool | int = False,
        into: str | Stream | None = None,
        wake: Callable[..., Any] | None = None,
    ) -> Callable[[F], F]:
        """Call the function with every event of a stream, or of the topics that match a filter: durably, at least
        once, in order per key.

        `concurrency` is how many calls run at a time, never two of one key (by default 16 for `async` functions and 1
        for others, which run in a thread). An event that fails is tried again as `retry` says, while other keys go on,
        and is then kept in the stream `$deadletters`; further events of its key are then tried once each, until one
        succeeds, as long as those of other keys do. `group` names the position that is kept (by default the
        function's module and name); a new group begins at `start`. A handler of batches gets as many events as have
        come, or at most `batch`. Events that it returns or publishes, and with `into` other data that it returns (a
        list is many), are published together with its position. A handler with a `State` may set its
        `wake_at`: at that time `wake` is called, with the state and whatever else a handler may have, except for an
        event. Raises `AppError`.
        """
        frame = caller(1)

        def declare(function: F) -> F:
            if isinstance(source, Stream) and source.name in self._wrong:
                return function  # its stream has been told of
            with declaring():
                where = f"{place_of(frame)}: handler {name_of(function)}"
                stream, topics, levels = self._source(source, where)
                names = common_names(levels)
                signature = read_signature(
                    function, names, where, per_batch=bool(batch), names=frame.f_locals, state=self._state
                )
                handler = Handler(
                    group=group or group_name(function, frame, where),
                    stream=stream,
                    signature=signature,
                    topics=topics,
                    levels=levels,
                    concurrency=check_concurrency(concurrency, signature, where),
                    retry=check_retry(retry, where),
                    start=check_start(start, where),
                    batch=None if isinstance(batch, bool) else batch,
                    into=_into(into, () if signature.per_batch else names, where),
                    wake=read_wake(wake, signature, names, where, frame.f_locals, self._state),
                    place=place_of(frame),
                )
                self._check_group(handler.group, where)
                self.handlers.append(handler)
            return function

        return declare

    def subscribe(self, topics: str, *, into: str | Stream | None = None) -> Callable[[F], F]:
        """Call the function with what is published on matching topics at the moment: at most once, in the order of
        arrival, one call at a time; nothing is kept, and one instance of the app gets each event. Raises `AppError`."""
        frame = caller(1)

        def declare(function: F) -> F:
            with declaring():
                where = f"{place_of(frame)}: subscription {name_of(function)}"
                parsed = parse_filter(topics, where)
                names = tuple(parsed.names)
                signature = read_signature(function, names, where, names=frame.f_locals, state=self._state)
                if signature.per_batch:
                    raise AppError(f"{where}: a subscription gets one event at a time; use app.on for batches")
                if signature.state is not None:
                    raise AppError(f"{where}: a subscription keeps nothing; use app.on for a handler with a State")
                group = group_name(function, frame, where)
                self._check_group(group, where)
                self.subscriptions.append(
                    Subscription(group, parsed, signature, _into(into, names, where), place_of(frame))
                )
            return function

        return declare

    def query(
        self,
        name: str,
        sql: str,
        *,
        into: str | Stream | None = None,
        start: Start = LATEST,
        payload: Any = None,
        grace: Duration = 0,
        early: Duration = 0,
        shadow: str | None = None,
    ) -> Stream:
        """Run a query over a stream for ever. Its results are published on the topic `into` (by default `name`), which
        is also a stream of that name, and events that came too late on `<name>.late`.

        `payload` is the type of the source's payloads, if its stream does not tell. `grace` (`"5s"`, a `timedelta`,
        seconds) is how much event time after its end a window closes: for events that come out of order. `early` asks
        for results of open windows too, every so many seconds, on `<name>.early`. `shadow` names the query in force
        beside which this one runs without effect: its results go to a stream of its own, and `millstream shadow` shows
        how they differ. Returns the stream of the results, for handlers. Errors in the text are told by `plan`. Raises
        `AppError`.
        """
        options = Options(name, into, start, grace, shadow, early)
        return self._declare_query(place_of(caller(1)), sql, options, payload)

    def _declare_query(self, place: Place, sql: str, options: Options, payload: Any = None) -> Stream:
        name, where = options.name, f"{place}: query {options.name!r}"
        into = options.into or name
        results = into if isinstance(into, Stream) else self._stream_of(into, (into,))
        with declaring(self._wrong, results.name):
            check_name(name, where)
            if payload is not None:
                check_payload(payload, where)
            grace, start = check_grace(options.grace, where), check_start(options.start, where)
            topic = parse_into(into, (), where).text
            early = check_early(options.early, where)
            late = f"{name}.late"
            whole = Query(name, sql, topic, late, start, payload, grace, place, options.shadow, early=early)
            queries = queries_of(whole, where, has_into=options.into is not None)
            for query in queries:
                self._check_group(query.name, where)
                is_own = query.into != topic or not isinstance(into, Stream)
                if is_own and not query.timed:
                    check_name(query.into, where)
                if is_own:
                    self._results.setdefault(query.into, query.name)
                self._results.setdefault(query.late, query.name)
                if query.early:
                    self._results.setdefault(query.updates, query.name)
            self.queries += queries
            if not isinstance(into, Stream):
                results = self._stream_named(next(query.into for query in queries if not query.timed))
        return results

    def _stream_named(self, topic: str) -> Stream:
        """The stream of what is published on a topic."""
        return self._streams.get(topic) or self._stream_of(topic, (topic,))

    def publish(
        self,
        topic: str,
        data: Any,
        *,
        key: str | None = None,
        id: str | None = None,  # noqa: A002 (the attribute's name in CloudEvents)
        type: str | None = None,  # noqa: A002
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Publish from inside a handler: the event is committed together with the one being handled, or not at all.

        `data` is bytes, text, or anything that becomes JSON. Raises `TopicError`; `AppError` outside of a handler.
        """
        outbox.put(
            outbox.make_event(
                topic, data, key=key, id=id, type=type, content_type=content_type, headers=dict(headers or {})
            )
        )

    def processors(self) -> tuple[list[Handler], list[Subscription]]:
        """The handlers and subscriptions as they are to be run: with the dependencies that stand in for others. Raises
        `AppError` where one of those does not fit."""
        return (
            [
                replace(
                    one,
                    signature=self._overridden(one.signature, one.place, common_names(one.levels)),
                    wake=one.wake and self._overridden(one.wake, one.place, common_names(one.levels)),
                )
                for one in self.handlers
            ],
            [
                replace(one, signature=self._overridden(one.signature, one.place, tuple(one.topics.names)))
                for one in self.subscriptions
            ],
        )

    def _overridden(self, signature: Signature, place: Place, levels: Sequence[str]) -> Signature:
        where = f"{place}: {name_of(signature.function)}"
        return overridden(signature, self.dependency_overrides, levels, where, state=self._state)

    @property
    def declared_streams(self) -> dict[str, Stream]:
        """The streams that were declared, by name, and the catch-all."""
        return dict(self._streams)

    def plan(self) -> dict[str, WindowPlan]:
        """The plans of the queries by name. Raises `AppError` with everything that is wrong in the app, a line each,
        beginning with the user's own file and line."""
        plans, problems = self._plans()
        if problems:
            raise AppError("\n".join(problems))
        return plans

    def problems(self) -> list[str]:
        """Everything that `plan` would raise, and whatever else can never do what it is there for, a line each."""
        plans, problems = self._plans()
        return problems + review(self, plans)

    def _plans(self) -> tuple[dict[str, WindowPlan], list[str]]:
        problems = [*result_problems(self._results, self._streams), *shadow_problems(self.queries)]
        # a stream that was left out would be missed in each query
        return ({} if self._wrong else plans_of(self, problems)), problems

    def check(self) -> None:
        """Raise `AppError` with everything that is wrong in the app."""
        self.plan()

    def test(
        self,
        *,
        workers: int = 1,
        start: datetime | None = None,
        raise_errors: bool = True,
        patience: str | timedelta | float = "10s",
    ) -> Plant:
        """The app under test: `async with app.test() as plant:`, with the real engine, in memory, on a virtual clock.

        `workers` is how many instances compete; `start` the plant's time at first (by default
        2026-01-01T00:00:00Z). Errors of handlers are raised in the test unless `raise_errors` is false: then they are
        in `plant.errors`. `patience` is how long in real time a call may take; what a busy machine takes from it does
        not count. See `millstream.testing.Plant`.
        """
        from millstream.testing import Plant  # which the app does not need to run

        return Plant(self, workers=workers, start=start, raise_errors=raise_errors, patience=patience)

    def _check_stream(self, stream: Stream, where: str) -> None:
        spec = stream.spec
        check_name(spec.name, where)
        if not spec.topics:
            raise AppError(f"{where} captures no topics; name at least one filter, for example topics='site/#'")
        if spec.partitions < 1:
            raise AppError(f"{where} has {spec.partitions} partitions; it needs at least one")
        if stream.payload is not None:
            check_payload(stream.payload, where)
        if spec.name in self._streams:
            raise AppError(f"{where} is declared twice{self._where_first(self._streams[spec.name].place)}")
        try:
            Router([spec])
        except (TopicError, AppError) as error:
            raise AppError(f"{where}: {error}") from None

    def _source(self, source: str | Stream, where: str) -> tuple[str, Filter | None, tuple[Filter, ...]]:
        """The stream to read, the filter that selects in it, and the filters that name topic levels."""
        if isinstance(source, Stream):
            if source.name not in self.streams:
                raise AppError(f"{where}: stream {source.name!r} is not of this app; declare it with app.stream(…)")
            return source.name, None, tuple(Filter.parse(text) for text in source.spec.topics)
        if not isinstance(source, str):
            raise AppError(f"{where}: {source!r} is neither a topic filter nor a stream")
        parsed = parse_filter(source, where)
        if not self.catch_all:
            raise AppError(
                f"{where}: a topic filter reads the catch-all stream {CATCH_ALL!r}, which App({self.name!r}, "
                f"catch_all=False) does not have; declare app.stream(…, topics={source!r}) and give it to app.on"
            )
        if source.startswith("$"):
            raise AppError(
                f"{where}: the catch-all stream does not capture topics that begin with '$'; "
                f"declare app.stream(…, topics={source!r}) and give it to app.on"
            )
        return CATCH_ALL, parsed, (parsed,)

    def _stream_of(self, name: str, topics: tuple[str, ...]) -> Stream:
        """A stream that nobody declared."""
        return Stream(StreamSpec(name, topics), declare=self._declare_query)

    def _check_group(self, name: str, where: str) -> None:
        declared = [(handler.group, handler.place) for handler in self.handlers]
        declared += [(query.name, query.place) for query in self.queries]
        declared += [(subscription.name, subscription.place) for subscription in self.subscriptions]
        for other, place in declared:
            if other == name:
                raise AppError(
                    f"{where}: something is named {name!r} already{self._where_first(place)}; "
                    "rename one, or give a handler its own group=…"
                )

    @staticmethod
    def _where_first(place: Place | None) -> str:
        return f" (first at {place})" if place else " (every app has it, unless App(…, catch_all=False))"


def _into(into: str | Stream | None, levels: Sequence[str], where: str) -> Filter | None:
    return None if into is None else parse_into(into, levels, where)
