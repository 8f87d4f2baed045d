"""Events a second through queries of NEXMark, beside Flink SQL on the same cores and the same events.

The stream of bids has the bidder as its key, so queries 5 and 7, of auctions and of everything, group by another one;
that of people and auctions has the person. In the first round the answers of both engines are compared with those of a
plain loop. Query 3 joins without a bound in time, which Millstream has none for: ten seconds find all that the plain
loop finds without, because nobody sells for longer. Query 4 is the one of Beam, in both engines: of auctions that are
over, in windows of their ends; as Flink's NEXMark has it, it is a running average that every bid may correct, and
answers of Millstream's stand. Its auctions and bids have a house as their key, one of 64, because a key's time goes on
with its events, and an auction has none behind its end. The windows of query 12 are of event time here, so that its
answers are the same in every run; in NEXMark they are of the machine's. Of several auctions with the most bids in a
window Millstream gives the first here, and Flink all. Query 7 is Flink's own way to the first of a window; as NEXMark's
join it took minutes there.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import engines, nexmark_events
from benchmarks.attempt import Attempts
from benchmarks.engines import FlinkSql
from benchmarks.lines import Lines
from benchmarks.machine import LOAD_CORE, SERVER_CORE
from benchmarks.nexmark_events import MODULUS, WINDOW_SECONDS, Row
from benchmarks.peers import CACHE
from benchmarks.process import RunError
from benchmarks.report import Aim, Section, rate_cell, ratio, ratio_cell, skipped
from benchmarks.windows import QUICK, THOROUGH

_CORES = (SERVER_CORE, LOAD_CORE)
_FEW = 2_000  # events of the run that costs hardly more than its start
_BIDS = """
    bidder BIGINT, auction BIGINT, price BIGINT, channel STRING, url STRING, `dateTime` TIMESTAMP_LTZ(3), extra STRING,
    WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND"""
_MARKET = """
    id BIGINT, seller BIGINT, category BIGINT, name STRING, city STRING, state STRING, `dateTime` TIMESTAMP_LTZ(3),
    WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND"""
_TRADES = """
    id BIGINT, category BIGINT, expires TIMESTAMP_LTZ(3), auction BIGINT, price BIGINT, `dateTime` TIMESTAMP_LTZ(3),
    ends AS COALESCE(expires, `dateTime`), WATERMARK FOR ends AS ends - INTERVAL '4' SECOND"""
_ANSWERS = "auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), `dateTime` TIMESTAMP_LTZ(3), extra STRING"

_HOT = """SELECT auction, count(*) AS num, window_start, window_end
    FROM TABLE(HOP(TABLE {source}, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
    GROUP BY auction, window_start, window_end"""

_VALID = """SELECT auction.id, auction.category, auction.ends, bid.price
    FROM (SELECT id, category, `dateTime`, ends FROM {source} WHERE id IS NOT NULL) AS auction
    JOIN (SELECT auction, price, ends FROM {source} WHERE auction IS NOT NULL) AS bid ON auction.id = bid.auction
    AND bid.ends BETWEEN auction.ends - INTERVAL '0.4' SECOND AND auction.ends AND bid.ends >= auction.`dateTime`"""

_SELECTED = f"""SELECT {{columns}}, window_start, window_end
    FROM TABLE(TUMBLE(TABLE {{{{source}}}}, DESCRIPTOR(`dateTime`), INTERVAL '{WINDOW_SECONDS}' SECOND))
    WHERE seller {{where}} GROUP BY {{columns}}, window_start, window_end"""

QUERIES = {
    "q0": (
        "every bid as it is",
        FlinkSql(_BIDS, _ANSWERS, "SELECT auction, bidder, price, `dateTime`, extra FROM {source}"),
    ),
    "q1": (
        "with the price in another currency",
        FlinkSql(_BIDS, _ANSWERS, "SELECT auction, bidder, 0.908 * price, `dateTime`, extra FROM {source}"),
    ),
    "q2": (
        "the bids of one auction in 123",
        FlinkSql(
            _BIDS,
            "auction BIGINT, price BIGINT",
            f"SELECT auction, price FROM {{source}} WHERE MOD(auction, {MODULUS}) = 0",
        ),
    ),
    "q3": (
        "who of three states sells what of a category",
        FlinkSql(
            _MARKET,
            "name STRING, city STRING, state STRING, id BIGINT",
            """SELECT person.name, person.city, person.state, auction.id FROM
                (SELECT id, seller FROM {source} WHERE category = 10) AS auction JOIN
                (SELECT * FROM {source} WHERE seller IS NULL AND state IN ('OR', 'ID', 'CA')) AS person
                ON auction.seller = person.id""",
        ),
    ),
    "q4": (
        "of each category the average of what auctions went for, in windows of 10 s",
        FlinkSql(
            _TRADES,
            "category BIGINT, average DOUBLE, auctions BIGINT",
            f"""WITH valid AS ({_VALID})
                SELECT category, avg(CAST(final AS DOUBLE)), count(*) FROM (
                    SELECT id, category, max(price) AS final, window_start, window_end
                    FROM TABLE(TUMBLE(TABLE valid, DESCRIPTOR(ends), INTERVAL '{WINDOW_SECONDS}' SECOND))
                    GROUP BY id, category, window_start, window_end
                ) GROUP BY category, window_start, window_end""",
        ),
    ),
    "q5": (
        "the auctions with the most bids in windows of 10 s, every 2 s",
        FlinkSql(
            _BIDS,
            "auction BIGINT, num BIGINT",
            f"""SELECT counted.auction, counted.num FROM ({_HOT}) AS counted JOIN (
                SELECT max(num) AS num, window_start, window_end FROM ({_HOT}) GROUP BY window_start, window_end
            ) AS most ON counted.window_start = most.window_start AND counted.window_end = most.window_end
            AND counted.num >= most.num""",
        ),
    ),
    "q7": (
        "the bid with the highest price in windows of 10 s",
        FlinkSql(
            _BIDS,
            "auction BIGINT, price BIGINT, bidder BIGINT",
            f"""SELECT auction, price, bidder FROM (
                SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY price DESC) AS place
                FROM TABLE(TUMBLE(TABLE {{source}}, DESCRIPTOR(`dateTime`), INTERVAL '{WINDOW_SECONDS}' SECOND))
            ) WHERE place = 1""",
        ),
    ),
    "q8": (
        "who comes and sells in the same window of 10 s",
        FlinkSql(
            _MARKET,
            "id BIGINT, name STRING",
            f"""SELECT person.id, person.name FROM ({_SELECTED.format(columns="id, name", where="IS NULL")}) AS person
                JOIN ({_SELECTED.format(columns="seller", where="IS NOT NULL")}) AS auction
                ON person.id = auction.seller AND person.window_start = auction.window_start
                AND person.window_end = auction.window_end""",
        ),
    ),
    "q11": (
        "a bidder's bids with pauses of up to 10 s",
        FlinkSql(
            _BIDS,
            "bidder BIGINT, bid_count BIGINT",
            f"""SELECT bidder, count(*) FROM TABLE(SESSION(
                TABLE {{source}} PARTITION BY bidder, DESCRIPTOR(`dateTime`), INTERVAL '{WINDOW_SECONDS}' SECOND))
            GROUP BY bidder, window_start, window_end""",
        ),
    ),
    "q12": (
        "a bidder's bids in windows of 10 s",
        FlinkSql(
            _BIDS,
            "bidder BIGINT, bid_count BIGINT",
            f"""SELECT bidder, count(*)
            FROM TABLE(TUMBLE(TABLE {{source}}, DESCRIPTOR(`dateTime`), INTERVAL '{WINDOW_SECONDS}' SECOND))
            GROUP BY bidder, window_start, window_end""",
        ),
    ),
}
ENGINES = ("Millstream", "Flink SQL")

Rates = Mapping[tuple[str, str], Sequence[float]]


def run(quick: bool) -> Section:
    """Measure both engines, as far as they can be had."""
    effort = QUICK if quick else THOROUGH
    attempts = Attempts()
    rates: dict[tuple[str, str], list[float]] = {(engine, query): [] for engine in ENGINES for query in QUERIES}
    for number in range(effort.rounds):
        for query in QUERIES:
            made, few = (nexmark_events.made_for(query, count) for count in (effort.count, _FEW))
            print(f"nexmark {number + 1}/{effort.rounds}: {query}, {made.count:,} events", file=sys.stderr)
            for engine in ENGINES:
                if rate := attempts.measure(engine, partial(measure, engine, query, made, few, check=number == 0)):
                    rates[engine, query].append(rate)
    return _section(rates, attempts.skipped, effort.count, effort.rounds)


def measure(engine: str, query: str, made: Lines, few: Lines, *, check: bool) -> float:
    """Events a second of one run; with `check`, its answers are compared. Raises `MissingError`; `RunError` if the
    engine failed or its answers are wrong."""
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="results-") as folder:
        results = Path(folder).absolute() / "results" if check else None
        if engine == "Millstream":
            command = [sys.executable, "-m", "benchmarks.nexmark_millstream", made.count]
            command += ["--results", results] if results else []
            seconds = engines.run(command, _CORES, NEXMARK=query)[-1]
        else:
            seconds = QUERIES[query][1].seconds(made.parts, few.parts, results)
        if results:
            found, wanted = _found(results), nexmark_events.expected(made, query)
            if query == "q11":
                found, wanted = wanted, found  # no bidder comes back, so which sessions end is not certain
            _compare(found, wanted, exactly=query in ("q0", "q1", "q2", "q3"))
    return made.count / seconds


def _found(results: Path) -> list[Row]:
    """The answers that an engine has written, sorted."""
    files = sorted(file for file in results.rglob("*") if file.is_file()) if results.is_dir() else [results]
    rows: list[Row] = []
    for file in files:
        with file.open() as lines:
            for line in lines:
                rows.append(tuple(_plain(name, value) for name, value in json.loads(line).items()))
    return sorted(rows)


def _plain(name: str, value: Any) -> object:
    """A value as the plain loop has it: engines write times in different ways, and a level of a topic is text."""
    if name == "dateTime":
        return datetime.fromisoformat(value).timestamp()
    return int(value) if name in ("bidder", "id") else value


def _compare(found: list[Row], wanted: list[Row], *, exactly: bool) -> None:
    """Where the engine knows of more closed windows than the loop (`exactly` is false), it may have more answers."""
    if exactly and len(found) != len(wanted):
        raise RunError(f"{len(found):,} answers instead of {len(wanted):,}")
    missing = set(wanted) - set(found)
    if missing:
        raise RunError(f"{len(missing):,} of {len(wanted):,} answers are missing, among them {sorted(missing)[:2]}")


def _section(rates: Rates, missing: Mapping[str, str], count: int, rounds: int) -> Section:
    ours, theirs = ENGINES
    rows = []
    for query, (what, _) in QUERIES.items():
        times = ratio(rates[ours, query], rates[theirs, query])
        peer = (
            skipped(missing[theirs])
            if theirs in missing
            else f"{rate_cell(rates[theirs, query])} · {ratio_cell(times)}"
        )
        rows.append([query, what, rate_cell(rates[ours, query]), peer])
    known = [times for query in QUERIES if (times := ratio(rates[ours, query], rates[theirs, query])) is not None]
    product = 1.0
    for times in known:
        product *= times
    aims = [
        Aim("geometric mean against Flink SQL", product ** (1 / len(known)) if known else None, at_least=5),
        Aim("the slowest against Flink SQL", min(known, default=None), at_least=2),
    ]
    note = (
        f"Events a second, of {count:,}: medians (and ranges) of {rounds} round(s); behind the dot, how many times as "
        "fast Millstream is. In the first round the answers of both were compared with those of a plain loop."
    )
    return Section("nexmark", ("query", "what it gives", *ENGINES), rows, aims, [note])
