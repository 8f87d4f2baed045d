"""A plain confluent-kafka consumer that only counts: `python -m benchmarks.kafka_consumer SERVERS TOPIC GROUP`.

Whenever nothing is left to read it prints how many records there were, and when the last one came, as a JSON list.
"""

from __future__ import annotations

import argparse
import json
import time

from confluent_kafka import Consumer

from benchmarks.process import unwind_on_sigterm

_AT_ONCE = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("servers", "topic", "group"):
        parser.add_argument(name)
    parser.add_argument("--one-by-one", action="store_true", help="with `poll`, instead of some hundreds at a time")
    options = parser.parse_args()
    unwind_on_sigterm()
    consumer = Consumer(
        {
            "bootstrap.servers": options.servers,
            "group.id": options.group,
            "auto.offset.reset": "earliest",
            "fetch.queue.backoff.ms": 10,  # else it rests for a second each time when enough is in its queue
        }
    )
    consumer.subscribe([options.topic])
    count, told, last = 0, 0, 0.0
    try:
        while True:
            if options.one_by_one:
                one = consumer.poll(0.05)
                messages = [] if one is None else [one]
            else:
                messages = consumer.consume(_AT_ONCE, 0.05)
            for message in messages:
                if message.error() is None:
                    count += 1
            if messages:
                last = time.time()
            elif count > told:
                told = count
                print(json.dumps([count, last]), flush=True)
    except KeyboardInterrupt:
        consumer.close()


if __name__ == "__main__":
    main()
