"""FastStream's subscriber of the handlers benchmark. Runs in FastStream's own virtual environment.

Connects to the broker at PORT, prints a line when it has subscribed, and when nothing has come for a while another one:
a JSON list with the number of calls of the handler, and the seconds from the first to the last.
"""

import argparse
import asyncio
import json
import time

import uvloop
from faststream import FastStream, Path
from faststream.mqtt import MQTTBroker, QoS
from pydantic import BaseModel

_QUIET_SECONDS = 2.0


class Model(BaseModel):
    ts: str
    celsius: float
    speed: int


class Calls:
    """How many there were, and when the first and the last one were."""

    def __init__(self) -> None:
        self.count = 0
        self.first = 0.0
        self.last = 0.0

    def called(self) -> None:
        self.last = time.perf_counter()
        self.first = self.first or self.last
        self.count += 1


async def main(port: int, qos: int, kind: str) -> None:
    calls, broker = Calls(), MQTTBroker("127.0.0.1", port=port, logger=None)
    subscriber = broker.subscriber("site/{site}/{device}/telemetry", qos=QoS(qos))

    if kind == "async":

        @subscriber
        async def handle_in_loop(reading: Model, device: str = Path()) -> None:
            calls.called()
    else:

        @subscriber
        def handle(reading: Model, device: str = Path()) -> None:
            calls.called()

    app = FastStream(broker, logger=None)
    await app.start()
    print("subscribed", flush=True)
    # The end is that nothing comes any more.
    while not calls.count or time.perf_counter() - calls.last < _QUIET_SECONDS:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    print(json.dumps([calls.count, calls.last - calls.first]), flush=True)
    await app.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--qos", type=int, choices=(0, 1), required=True)
    parser.add_argument("--handler", choices=("sync", "async"), required=True)
    options = parser.parse_args()
    uvloop.run(main(options.port, options.qos, options.handler))
