"""A query of Flink SQL over events in files. Runs in Flink's own virtual environment.

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
    CREATE TEMPORARY TABLE {name} ({columns}) WITH (
        'connector' = 'filesystem', 'path' = 'file://{path}', 'format' = 'json',
        'json.ignore-parse-errors' = 'true', 'json.timestamp-format.standard' = 'ISO-8601'
    )"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("sources", type=Path, nargs="+", help="folders of events, one a run")
    parser.add_argument("--parallelism", type=int, required=True)
    parser.add_argument("--columns", required=True, help="of the events")
    parser.add_argument("--answers", required=True, help="columns of the answers")
    parser.add_argument("--query", required=True, help="a SELECT, with {source} for the table of events")
    parser.add_argument("--results", type=Path, help="where the last run writes its results; else nowhere")
    options = parser.parse_args()
    table = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    for name, value in (
        ("parallelism.default", str(options.parallelism)),
        ("pipeline.object-reuse", "true"),
        ("table.local-time-zone", "UTC"),
    ):
        table.get_config().set(name, value)
    table.execute_sql(f"CREATE TEMPORARY TABLE nowhere ({options.answers}) WITH ('connector' = 'blackhole')")
    if options.results:
        table.execute_sql(
            f"CREATE TEMPORARY TABLE results ({options.answers}) WITH ('connector' = 'filesystem', "
            f"'path' = 'file://{options.results}', 'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601')"
        )
    seconds = []
    for number, path in enumerate(options.sources):
        source = f"events_{number}"
        table.execute_sql(_SOURCE.format(name=source, columns=options.columns, path=path))
        last = number == len(options.sources) - 1
        sink = "results" if options.results and last else "nowhere"
        job = table.execute_sql(f"INSERT INTO {sink} {options.query.format(source=source)}").get_job_client()
        seconds.append(job.get_job_execution_result().result().get_net_runtime() / 1000)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
