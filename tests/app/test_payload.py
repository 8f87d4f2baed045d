"""Payloads as the types that users annotate."""

from __future__ import annotations

import dataclasses
from typing import Any, TypedDict

import msgspec
import pydantic.dataclasses
import pytest
from pydantic import BaseModel

from millstream.app.payload import DECODE_ERRORS, decode_problem, payload_decoder


class Struct(msgspec.Struct):
    celsius: float


class Model(BaseModel):
    celsius: float


@dataclasses.dataclass
class Data:
    celsius: float


@pydantic.dataclasses.dataclass
class Checked:
    celsius: float


class Typed(TypedDict):
    celsius: float


@pytest.mark.parametrize(
    ("kind", "payload", "expected"),
    [
        (bytes, b"\xff\x00", b"\xff\x00"),
        (str, "21 °C".encode(), "21 °C"),
        (dict, b'{"a": 1}', {"a": 1}),
        (Any, b"[1]", [1]),
        (float, b"21.5", 21.5),
        (Struct, b'{"celsius": 21.5, "more": 1}', Struct(21.5)),
        (Data, b'{"celsius": 21.5}', Data(21.5)),
        (Typed, b'{"celsius": 21.5}', {"celsius": 21.5}),
        (Model, b'{"celsius": "21.5"}', Model(celsius=21.5)),
        (Checked, b'{"celsius": 21.5}', Checked(21.5)),
        (list[Model], b'[{"celsius": 1}]', [Model(celsius=1)]),
    ],
)
def test_payload_decodes(kind: Any, payload: bytes, expected: Any) -> None:
    assert payload_decoder(kind)(payload) == expected


@pytest.mark.parametrize(
    ("kind", "payload", "problem"),
    [
        (str, b"\xff", "utf-8"),
        (dict, b"[1]", "Expected `object`"),
        (dict, b"{", "truncated"),
        (dict, b"", "truncated"),
        (Any, b"[" * 100_000, "recursion"),
        (Struct, b'{"celsius": "hot"}', "$.celsius"),
        (Data, b"{}", "celsius"),
        (Typed, b"{}", "celsius"),
        (Model, b'{"celsius": "hot"}', "celsius: Input should be a valid number"),
        (Model, b"\xff", "JSON"),
    ],
)
def test_payload_that_does_not_fit_is_told_in_one_line(kind: Any, payload: bytes, problem: str) -> None:
    with pytest.raises(DECODE_ERRORS) as raised:
        payload_decoder(kind)(payload)
    text = decode_problem(raised.value)
    assert problem in text
    assert "\n" not in text


def test_several_problems_of_a_model_are_counted() -> None:
    class Two(BaseModel):
        a: int
        b: int

    with pytest.raises(DECODE_ERRORS) as raised:
        payload_decoder(Two)(b"{}")
    assert decode_problem(raised.value) == "a: Field required (and 1 more)"


class Opaque:
    pass


class Holder(msgspec.Struct):
    inner: list[Opaque]


class Recursive(msgspec.Struct):
    inner: Recursive | None = None


@pytest.mark.parametrize("kind", [Opaque, Holder, dict[str, Opaque]])
def test_type_that_nothing_can_decode_is_refused(kind: Any) -> None:
    with pytest.raises(TypeError, match="Opaque"):
        payload_decoder(kind)


def test_recursive_type_is_taken() -> None:
    assert payload_decoder(Recursive)(b'{"inner": {}}') == Recursive(Recursive())
