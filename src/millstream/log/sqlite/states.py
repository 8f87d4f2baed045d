"""The state chunks of groups: their checksum, and reading them back."""

from __future__ import annotations

import zlib

import apsw

from millstream.errors import CorruptChunkError


def state_checksum(group: int, number: int, name: str, data: bytes) -> int:
    """The CRC-32 of a state chunk and of where it belongs."""
    return zlib.crc32(f"{group}/{number}/{name}".encode(), zlib.crc32(data))


def read_states(db: apsw.Connection, group: str, number: int) -> dict[str, bytes]:
    """The state chunks of a partition number, ordered by name. `CorruptChunkError` if one is not what was saved."""
    states: dict[str, bytes] = {}
    for group_id, name, checksum, data in db.execute(
        "SELECT group_id, states.name, checksum, data FROM states JOIN consumer_groups g ON group_id = g.id "
        "WHERE g.name = ? AND number = ? ORDER BY states.name",
        (group, number),
    ):
        if state_checksum(group_id, number, name, data) != checksum:
            raise CorruptChunkError(
                f"the state chunk {name!r} of group {group!r}, partition {number}, is damaged: its checksum does not "
                "match; check the disk, and restore the data folder from a backup"
            )
        states[name] = data
    return states
