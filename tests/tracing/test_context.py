"""W3C Trace Context in headers: what is one, and how it is carried on."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as some

from millstream.event import EVENT_SCHEMA, Event
from millstream.tracing import carry, is_sampled, trace_of, traces_of
from millstream.tracing.context import is_traceparent

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize(
    ("text", "right"),
    {
        SAMPLED: True,
        f"00-{TRACE}-{PARENT}-00": True,
        f"01-{TRACE}-{PARENT}-01-more": True,  # of a later version
        f"00-{TRACE}-{PARENT}-01-more": False,
        f"ff-{TRACE}-{PARENT}-01": False,
        f"00-{TRACE.upper()}-{PARENT}-01": False,
        f"00-{'0' * 32}-{PARENT}-01": False,
        f"00-{TRACE}-{'0' * 16}-01": False,
        f"00-{TRACE}-{PARENT}": False,
        f"00-{TRACE}-{PARENT}-1": False,
        "": False,
        "---": False,
    }.items(),
)
def test_what_is_a_traceparent(text: str, right: bool) -> None:
    assert is_traceparent(text) is right
    assert bool(trace_of({"traceparent": text, "tracestate": "a=1"})) is right


@given(some.text(), some.text())
def test_garbage_is_no_context_and_no_error(parent: str, state: str) -> None:
    assert not trace_of({"traceparent": parent, "tracestate": state})
    assert not is_sampled({})


def test_the_flags_say_whether_it_is_sampled() -> None:
    assert is_sampled({"traceparent": SAMPLED})
    assert is_sampled({"traceparent": SAMPLED[:-2] + "03"})
    assert not is_sampled({"traceparent": SAMPLED[:-2] + "02"})


def test_contexts_in_a_column() -> None:
    kind = EVENT_SCHEMA.field("headers").type
    rows = [
        None,
        [("a", "b")],
        [("x", "y"), ("traceparent", SAMPLED), ("tracestate", "v=1")],
        [],
        [("traceparent", "garbage")],
        [("traceparent", SAMPLED)],
    ]
    found = traces_of(pa.array(rows, kind))
    assert found == {2: {"traceparent": SAMPLED, "tracestate": "v=1"}, 5: {"traceparent": SAMPLED}}
    assert traces_of(pa.array(rows, kind).slice(2, 2)) == {0: found[2]}
    assert traces_of(pa.nulls(3, kind)) == traces_of(pa.nulls(0, kind)) == {}


def test_what_follows_is_in_the_same_context_unless_it_says_otherwise() -> None:
    trace, other = {"traceparent": SAMPLED, "tracestate": "v=1"}, SAMPLED.replace(PARENT, "1" * 16)
    plain, own = Event(topic="a", headers={"b": "c"}), Event(topic="a", headers={"traceparent": other})
    carried = carry(trace, [plain, own])
    assert carried[0].headers == {"b": "c", **trace}
    assert carried[1].headers == {"traceparent": other}
    assert plain.headers == {"b": "c"}
    assert carry({}, [plain]) == [plain]
