"""What a step leaves to be saved."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Saved:
    """Chunks to save and to drop, by partition."""

    save: dict[int, dict[str, bytes]] = field(default_factory=dict)
    drop: dict[int, list[str]] = field(default_factory=dict)

    def __add__(self, other: Saved) -> Saved:
        """Both; no chunk is of both."""
        both = Saved()
        for one in (self, other):
            for partition, chunks in one.save.items():
                both.save.setdefault(partition, {}).update(chunks)
            for partition, names in one.drop.items():
                both.drop.setdefault(partition, []).extend(names)
        return both
