"""What every processor of the engine is: a step from (state, batches) to (state changes, outputs).

The worker around it reads the batches and commits everything in a `Step` in one transaction, with the positions.
When a commit fails, it forgets the partitions and restores them from what is committed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from millstream.clock import Micros
from millstream.engine.lookup import Version
from millstream.event import Batch


@dataclass(frozen=True, slots=True)
class Rejected:
    """An event that could not be processed, by its place in the step's batches, and why."""

    batch: int
    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class Step:
    """What a step came to. `outputs` and `late` are events to publish (columns of `EVENT_SCHEMA`, topics and keys
    filled in); `save` and `drop` are state chunks by partition number; `due` the next instant at which a tick is
    wanted, by stream and partition, for every partition where it changed; `counts` what became of the events: their
    sum is the number of events in the batches; `notes` what else is worth counting and is no part of that sum;
    `watermark` the largest event time that was seen so far, in all partitions that the processor has."""

    outputs: pa.RecordBatch | None = None
    late: pa.RecordBatch | None = None
    rejected: Sequence[Rejected] = ()
    save: Mapping[int, Mapping[str, bytes]] = field(default_factory=dict)
    drop: Mapping[int, Sequence[str]] = field(default_factory=dict)
    due: Mapping[tuple[str, int], Micros | None] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)
    watermark: Micros | None = None


class Dues:
    """What a processor wants ticks for, in the partitions of a stream, and what of it has changed."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._known: dict[int, Micros | None] = {}

    def forget(self, partition: int) -> None:
        """The partition is somebody else's, or begins anew: nothing is known of it."""
        self._known.pop(partition, None)

    def changed(self, dues: Mapping[int, Micros | None]) -> dict[tuple[str, int], Micros | None]:
        """Of instants by partition those that are others than before, as a `Step` has them."""
        changed = {p: due for p, due in dues.items() if p not in self._known or self._known[p] != due}
        self._known.update(changed)
        return {(self._stream, partition): due for partition, due in changed.items()}


class Processor(Protocol):
    """Steps with state, which is kept by partition number."""

    def step(self, batches: Sequence[Batch]) -> Step:
        """Process batches (at most one a stream and partition). The same batches in other pieces give the same
        results in the same order for each key."""
        ...

    def refer(self, versions: Mapping[str, Sequence[Version]]) -> None:
        """The versions of the plan's references that the next steps need, by name, in the order of time: the one in
        force at the first arrival in their batches, and all later ones (of which it may be given too many)."""
        ...

    def restore(self, partition: int, chunks: Mapping[str, bytes]) -> None:
        """Take a partition number on, with the chunks that were saved for it (none: it is new)."""
        ...

    def forget(self, partition: int) -> None:
        """Drop a partition number and its state."""
        ...

    def reset(self, partition: int, key: str) -> Step:
        """Let go what is kept of a stream key in a partition number: what comes is as if nothing had come before."""
        ...

    def kept(self, partition: int) -> int:
        """How many events of a partition number are kept for others to look back to."""
        ...
