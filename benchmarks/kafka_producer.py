"""A plain confluent-kafka producer: `python -m benchmarks.kafka_producer`, for the table of Kafka.

It sends the same records over and over, which were made before, as fast as the client takes them, and counts delivery
reports. With `--bare` they have no headers. It prints one line of JSON: the `rate` of the measured span, and how many
were `delivered` in all.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from typing import Any, cast

from confluent_kafka import KafkaError, Message, Producer

from benchmarks.load import readings
from millstream.event import Event, to_columns
from millstream.ledger.names import GATEWAY
from millstream.log.kafka.record import encode

_RECORDS, _DEVICES = 10_000, 1_000
_FLUSH_SECONDS = 60.0


class Producing:
    """A producer whose records keep their order, and are on all replicas in sync when they are reported."""

    def __init__(self, servers: str, topic: str) -> None:
        self._topic = topic
        self.delivered = 0
        self._producer = Producer({"bootstrap.servers": servers, "acks": "all", "enable.idempotence": True})

    def produce(self, records: itertools.cycle[tuple[bytes | None, bytes, Any]], seconds: float) -> float:
        """Send for so long; how many were delivered in a second."""
        before, begin = self.delivered, time.perf_counter()
        now, end = begin, begin + seconds
        while now < end:
            for _ in range(100):
                self._send(*next(records))
            now = time.perf_counter()
        return (self.delivered - before) / (now - begin)

    def flush(self) -> None:
        """Wait for the last of them."""
        if self._producer.flush(_FLUSH_SECONDS):
            raise TimeoutError(f"{len(self._producer)} records are not delivered")

    def _send(self, key: bytes | None, value: bytes, headers: Any) -> None:
        while True:
            try:
                self._producer.produce(self._topic, value, key, on_delivery=self._count, headers=headers)
                self._producer.poll(0)
                return
            except BufferError:  # as much is under way as the client holds
                self._producer.poll(0.1)

    def _count(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            raise RuntimeError(error.str())
        self.delivered += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("servers", "topic"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--bare", action="store_true", help="without headers")
    for name in ("warm-up", "seconds"):
        parser.add_argument(f"--{name}", type=float, required=True)
    options = parser.parse_args()
    events = [
        Event(topic=topic, key=topic.split("/")[2], payload=payload) for topic, payload in readings(_RECORDS, _DEVICES)
    ]
    records = itertools.cycle(
        [
            (key, value, None if options.bare else cast("Any", headers))
            for key, value, headers in encode(to_columns(events), GATEWAY)
        ]
    )
    producing = Producing(options.servers, options.topic)
    producing.produce(records, options.warm_up)
    rate = producing.produce(records, options.seconds)
    producing.flush()
    print(json.dumps({"rate": rate, "delivered": producing.delivered}))


if __name__ == "__main__":
    main()
