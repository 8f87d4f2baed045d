"""Flink SQL over the events of the windows benchmark. Runs in Flink's own virtual environment.

A local mini-cluster of the given parallelism; one file for each reader, so that they go through time together; the
two-phase window aggregation that Flink documents as its fastest, objects reused, no checkpoints. Prints the net run
time of each job, in seconds as Flink tells it (without planning and submitting), as a JSON list. The jobs run one
after another in one JVM, so the later ones find their code compiled.
"""

import argparse
import json
from pathlib import Path

from pyflink.table import EnvironmentSettings, TableEnvironment

_SOURCE = """
    CREATE TEMPORARY TABLE {name} (
        device STRING, ts TIMESTAMP_LTZ(3), celsius DOUBLE,
        WATERMARK FOR ts AS ts - INTERVAL '2' SECOND
    ) WITH (
        'connector' = 'filesystem', 'path' = 'file://{path}', 'format' = 'json',
        'json.ignore-parse-errors' = 'true', 'json.timestamp-format.standard' = 'ISO-8601'
    )"""

_COLUMNS = "device STRING, window_end TIMESTAMP_LTZ(3), n BIGINT, mean DOUBLE, peak DOUBLE"

_QUERY = """
    INSERT INTO {sink}
    SELECT device, CAST(window_end AS TIMESTAMP_LTZ(3)), count(*), avg(celsius), max(celsius)
    FROM TABLE(TUMBLE(TABLE {source}, DESCRIPTOR(ts), INTERVAL '{seconds}' SECOND))
    GROUP BY device, window_start, window_end"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("sources", type=Path, nargs="+", help="folders of events, one a run")
    parser.add_argument("--parallelism", type=int, required=True)
    parser.add_argument("--window-seconds", type=int, required=True)
    parser.add_argument("--results", type=Path, help="where the last run writes its results; else nowhere")
    options = parser.parse_args()
    table = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    for name, value in (
        ("parallelism.default", str(options.parallelism)),
        ("pipeline.object-reuse", "true"),
        ("table.local-time-zone", "UTC"),
    ):
        table.get_config().set(name, value)
    table.execute_sql(f"CREATE TEMPORARY TABLE nowhere ({_COLUMNS}) WITH ('connector' = 'blackhole')")
    if options.results:
        table.execute_sql(
            f"CREATE TEMPORARY TABLE results ({_COLUMNS}) WITH ('connector' = 'filesystem', "
            f"'path' = 'file://{options.results}', 'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601')"
        )
    seconds = []
    for number, path in enumerate(options.sources):
        source = f"events_{number}"
        table.execute_sql(_SOURCE.format(name=source, path=path))
        last = number == len(options.sources) - 1
        sink = "results" if options.results and last else "nowhere"
        job = table.execute_sql(
            _QUERY.format(sink=sink, source=source, seconds=options.window_seconds)
        ).get_job_client()
        seconds.append(job.get_job_execution_result().result().get_net_runtime() / 1000)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
