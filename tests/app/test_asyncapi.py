"""The AsyncAPI document says what the app declares, and is one by the specification's own parser."""

from __future__ import annotations

import dataclasses
import enum
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest
from pydantic import BaseModel

from millstream import App, Depends, Event
from millstream.app.asyncapi import asyncapi
from millstream.errors import AppError

TOOLS = Path(__file__).parents[2] / ".ci" / "node_modules"
INFORMATION = 2  # a severity of the parser's: a hint, for example that a contact is missing


class Reading(msgspec.Struct):
    ts: str
    celsius: float
    place: tuple[float, float] = (0.0, 0.0)


class Position(BaseModel):
    x: float


class Model(BaseModel):
    position: Position
    others: list[Position] = []


class Typed(TypedDict):
    n: int


@dataclasses.dataclass
class Alert:
    device: str
    text: str


class Side(enum.Enum):
    LEFT = "left"
    RIGHT = "right"


def plant() -> App:
    app = App("plant", version="1.2.3")
    telemetry = app.stream("telemetry", "site/{site}/{device}/telemetry", key="device", payload=Reading)
    both = app.stream("both", ["a/{device}", "b/{device}"])

    def position(model: Model) -> Position:
        return model.position

    @app.on(telemetry, group="plant.check", into="site/{site}/{device}/alert")
    def check(reading: Reading, device: str) -> Iterator[Alert | None]:
        """Looks at each reading.

        And at more than that."""
        yield Alert(device, "hot")

    @app.on(both, group="plant.both")
    def handle(data: Typed) -> None: ...

    @app.on("door/{side}/#", group="plant.door")
    def door(side: Side, where: Annotated[Position, Depends(position)]) -> Event | None: ...

    @app.on("raw/+", group="plant.raw", batch=True)
    def raw(payloads: list[str]) -> None: ...

    @app.subscribe("seen/{kind}", into="echo")
    def seen(kind: Literal["a", "b"], data: list[Model]) -> str:
        return kind

    app.query(
        "overheating",
        """
        SELECT device, avg(celsius) AS mean, count(*) AS n, System.Timestamp() AS window_end
        FROM telemetry TIMESTAMP BY ts
        GROUP BY device, TumblingWindow(second, 10)""",
        into="alerts",
    )
    return app


def channel_of(document: dict[str, Any], operation: str) -> dict[str, Any]:
    """The channel of an operation."""
    reference = document["operations"][operation]["channel"]["$ref"]
    found: dict[str, Any] = document["channels"][reference.removeprefix("#/channels/")]
    return found


def messages_of(document: dict[str, Any], operation: str) -> list[str]:
    """The names of an operation's messages, each of which is one of its channel's and of the components'."""
    channel, names = channel_of(document, operation), []
    for message in document["operations"][operation].get("messages", ()):
        name = message["$ref"].rpartition("/")[2]
        assert channel["messages"][name] == {"$ref": f"#/components/messages/{name}"}
        assert document["components"]["messages"][name]["name"] == name
        names.append(name)
    return names


def test_handlers_subscriptions_and_queries_are_operations_on_the_channels_of_their_topics() -> None:
    document = asyncapi(plant())
    assert document["info"] == {"title": "plant", "version": "1.2.3"}
    found = {
        name: (one["action"], channel_of(document, name)["address"], messages_of(document, name))
        for name, one in document["operations"].items()
    }
    seen = next(name for name in found if name.endswith("seen"))
    assert found == {
        "plant.check": ("receive", "site/{site}/{device}/telemetry", ["Reading"]),
        "plant.check.result": ("send", "site/{site}/{device}/alert", ["Alert"]),
        "plant.both-1": ("receive", "a/{device}", ["Typed"]),
        "plant.both-2": ("receive", "b/{device}", ["Typed"]),
        "plant.door": ("receive", "door/{side}/#", ["Model"]),
        "plant.raw": ("receive", "raw/+", ["str"]),
        seen: ("receive", "seen/{kind}", ["list_tests.app.test_asyncapi.Model"]),
        f"{seen}.result": ("send", "echo", ["str"]),
        "overheating": ("receive", "site/{site}/{device}/telemetry", ["Reading"]),
        "overheating.result": ("send", "alerts", ["overheating"]),
        "overheating.late": ("send", "overheating.late", ["Reading"]),
    }
    assert document["operations"]["plant.check"]["summary"] == "Looks at each reading."
    assert document["operations"]["overheating"]["description"].startswith("SELECT device")


def test_parameters_tell_the_values_that_they_may_have() -> None:
    document = asyncapi(plant())
    assert channel_of(document, "plant.check")["parameters"] == {"site": {}, "device": {}}
    assert channel_of(document, "plant.door")["parameters"] == {"side": {"enum": ["left", "right"]}}
    seen = next(name for name in document["operations"] if name.endswith("seen"))
    assert channel_of(document, seen)["parameters"] == {"kind": {"enum": ["a", "b"]}}


def test_payloads_have_schemas() -> None:
    schemas = asyncapi(plant())["components"]["schemas"]
    assert schemas["Reading"]["required"] == ["ts", "celsius"]
    assert schemas["Reading"]["properties"]["place"]["items"] == [{"type": "number"}, {"type": "number"}]
    assert schemas["Model"]["properties"]["position"] == {"$ref": "#/components/schemas/Position"}
    assert schemas["Position"]["required"] == ["x"]
    assert schemas["overheating"] == {
        "type": "object",
        "properties": {
            "device": {"type": "string"},
            "mean": {"type": ["number", "null"]},
            "n": {"type": ["integer", "null"]},
            "window_end": {"type": "string", "format": "date-time"},
        },
        "required": ["device", "mean", "n", "window_end"],
    }


def test_types_of_one_name_do_not_meet() -> None:
    app = App("plant")
    namesake = dataclasses.make_dataclass("Reading", [("bar", int)])
    namesake.__module__ = "elsewhere"
    app.stream("one", "one", payload=Reading)
    app.stream("two", "two", payload=namesake)
    document = asyncapi(app)
    assert set(document["components"]["schemas"]) == {"Reading", "elsewhere.Reading"}
    assert list(document["channels"]["two"]["messages"]) == ["elsewhere.Reading"]


def test_channels_whose_fixed_levels_are_the_same_have_names_of_their_own() -> None:
    app = App("plant")
    for number, topics in enumerate(["{a}/x", "x/{a}", "x/{a}/{b}", "x/+", "+", "#"]):
        app.stream(str(number), topics)
    channels = asyncapi(app)["channels"]
    assert [one["address"] for one in channels.values()] == ["{a}/x", "x/{a}", "x/{a}/{b}", "x/+", "+", "#"]


def test_wrong_app_has_no_document() -> None:
    app = App("plant")
    app.query("wrong", "SELECT nonsense")
    with pytest.raises(AppError, match="query 'wrong'"):
        asyncapi(app)


def parse(document: dict[str, Any]) -> list[dict[str, Any]]:
    """What the official parser complains of. It has to be installed: `npm install --prefix .ci`."""
    done = subprocess.run(
        ["node", str(Path(__file__).with_name("asyncapi_parser.cjs"))],
        input=json.dumps(document),
        capture_output=True,
        text=True,
        timeout=120,
        env={"NODE_PATH": str(TOOLS), "PATH": str(Path(shutil.which("node") or "").parent)},
        check=True,
    )
    said = json.loads(done.stdout)
    assert said["parsed"] or said["diagnostics"]
    return [one for one in said["diagnostics"] if one["severity"] < INFORMATION]


needs_parser = pytest.mark.skipif(
    shutil.which("node") is None or not (TOOLS / "@asyncapi" / "parser").is_dir(),
    reason="the official parser is not installed: npm install --prefix .ci (with Node.js)",
)


@needs_parser
def test_official_parser_finds_nothing_wrong() -> None:
    assert parse(asyncapi(plant())) == []
    assert parse(asyncapi(App("nothing"))) == []


@needs_parser
def test_official_parser_finds_what_is_wrong() -> None:
    document = asyncapi(plant())
    document["operations"]["overheating"]["action"] = "take"
    assert parse(document)
