"""The applications of the handlers benchmark: each has one handler of every reading, which does nothing.

They are named as `handlers_app.py:NAME`, and the group of each has its name.
"""

import msgspec
from pydantic import BaseModel

from millstream import App

_TOPICS = "site/{site}/{device}/telemetry"


class Model(BaseModel):
    ts: str
    celsius: float
    speed: int


class Struct(msgspec.Struct):
    ts: str
    celsius: float
    speed: int


model, struct, coroutine = (App(name, catch_all=False) for name in ("model", "struct", "coroutine"))


@model.on(model.stream("readings", topics=_TOPICS, key="device"), group="model", start="earliest")
def handle_model(reading: Model, device: str) -> None: ...


@struct.on(struct.stream("readings", topics=_TOPICS, key="device"), group="struct", start="earliest")
def handle_struct(reading: Struct, device: str) -> None: ...


@coroutine.on(coroutine.stream("readings", topics=_TOPICS, key="device"), group="coroutine", start="earliest")
async def handle_coroutine(reading: Model, device: str) -> None: ...
