"""The page about the format says what is on disk, and a reader made from it alone reads the same."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.support.records import SETTINGS, append, everything, gain
from tests.support.streams import eventually

from millstream.clock import VirtualClock
from millstream.event import BATCH_SCHEMA, Event, to_columns
from millstream.log import StreamSpec
from millstream.log.contract import MAX_CHUNK_BYTES
from millstream.log.sqlite import SqliteLog, checkpoint, coalesce, retention
from millstream.log.sqlite.folder import Ballast, FolderLock
from millstream.log.sqlite.format import CHUNK_BYTES, OFFSET_BITS, Codec, Row, row_id, unpack
from millstream.log.sqlite.schema import APPLICATION_ID, FILE_NAME, FORMAT_VERSION, PAGE_BYTES, open_memory

PAGE = (Path(__file__).parents[3] / "docs" / "log-format.md").read_text()


def part(heading: str) -> str:
    return next(part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE) if part.startswith(heading))


def test_the_versions_are_the_codes() -> None:
    assert f"Format version **{FORMAT_VERSION}**" in PAGE
    assert f"0x{APPLICATION_ID:X}" in PAGE
    assert f"× 2{str(OFFSET_BITS).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}" in PAGE
    for codec, name in zip(Codec, ("not at all", "LZ4 block", "Zstandard"), strict=True):
        assert f"{codec.value} {name}" in PAGE


def test_the_sizes_are_the_codes() -> None:
    text = " ".join(PAGE.split())
    kilo, mega = 1 << 10, 1 << 20
    assert f"pages of {PAGE_BYTES // kilo} KB" in text
    assert f"when it has grown by {checkpoint.STEP_PAGES * PAGE_BYTES // mega} MB" in text
    assert f"if it has come to {checkpoint.LIMIT_PAGES * PAGE_BYTES // mega} MB" in text
    assert f"several, if it has more than {CHUNK_BYTES // mega} MB" in text
    assert f"{coalesce.ENOUGH} such *crumbs* (below {coalesce.CRUMB_BYTES // kilo} KB)" in text
    assert f"{coalesce.ENOUGH} of the resulting *pieces* (below {coalesce.LARGE_BYTES // kilo} KB)" in text
    assert f"up to {coalesce.TARGET_BYTES // kilo} KB" in text
    assert f"at most {retention.SLICE} or so" in text
    assert f"at most {MAX_CHUNK_BYTES // kilo} KB" in text


def test_every_file_is_described(tmp_path: Path) -> None:
    described = set(re.findall(r"`([a-z.-]+)`", "".join(re.findall(r"^\| (.*?) \|", part("The folder"), re.MULTILINE))))
    FolderLock(tmp_path).release()
    Ballast(tmp_path, 1).take()
    made = {path.name for path in tmp_path.iterdir()} | {FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"}
    assert described == made


def test_every_table_and_column_is_described() -> None:
    db = open_memory()
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    described = dict(re.findall(r"^\*\*`(\w+)`\*\*(.*?)(?=\n\n|\Z)", part("Tables"), re.MULTILINE | re.DOTALL))
    assert set(described) == tables
    for table in tables - {"chunks"}:
        columns = {name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")}
        assert columns <= set(re.findall(r"`(\w+)`", described[table])), table
    rows = "".join(re.findall(r"^\| (.*?) \|", part("Chunks"), re.MULTILINE))
    assert re.findall(r"`(\w+)`", rows) == [name for _, name, *_ in db.execute("PRAGMA table_info(chunks)")]
    assert re.findall(r"`(\w+)`", rows) == list(Row._fields)
    db.close()


def test_the_columns_of_events_are_described_in_their_order() -> None:
    (line,) = re.findall(r"from bit 0: (.*?)\.\n", part("Chunks"), re.DOTALL)
    assert re.findall(r"`(\w+)`", line) == BATCH_SCHEMA.names


Reading = Callable[[Path, str, int], Iterable[tuple[int, str, bytes]]]


def reader_of_the_page() -> Reading:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(program, names)
    reading: Reading = names["events"]
    return reading


async def test_the_pages_reader_reads_what_the_log_reads(tmp_path: Path) -> None:
    clock = VirtualClock()
    log = await SqliteLog.open(tmp_path, SETTINGS, clock)
    await log.create(StreamSpec("other", partitions=3))
    await log.create(StreamSpec("a", partitions=2))
    ticker = await log.join("g", ["a"])
    await gain(ticker)
    for number in range(150):
        if number % 40 == 0:
            transaction = ticker.transaction()
            transaction.due("a", 1, clock.now())
            await transaction.commit()
        await append(log, "a", 1, str(number), "x" * number)
    transaction = log.transaction()
    transaction.append("a", 1, to_columns([Event(topic="t", id="1", headers={"a": "b"}, payload=b"y" * 5000)]))
    transaction.append("a", 1, to_columns([Event(topic="t", payload=random.Random(1).randbytes(5000))]))
    await transaction.commit()

    async def mixed() -> bool:
        """Whether there are merged chunks beside others, in every way of compressing."""
        await clock.advance(1)
        both = "SELECT count(DISTINCT codec) = 3 AND count(ticks) > 0 FROM chunks"
        return await log.core.writer.call(lambda store: bool(store.db.execute(both).get))

    await eventually(mixed)
    ours = [
        (event.offset, event.topic, event.payload)
        async for batch in everything(log, "a", 1, limit_bytes=5000)
        for event in batch
    ]
    await log.close()
    assert len(ours) == 302
    assert list(reader_of_the_page()(tmp_path / FILE_NAME, "a", 1)) == ours


GOLDEN = (
    "ffffffff1801000014000000000000000c0016000600050008000c000c000000000304001800000050000000000000000000"
    "0a0018000c00040008000a000000ac0000001000000002000000000000000000000009000000000000000000000000000000"
    "0000000000000000000000000c00000000000000100000000000000006000000000000001800000000000000010000000000"
    "000020000000000000000c000000000000003000000000000000010000000000000038000000000000000000000000000000"
    "38000000000000000c0000000000000048000000000000000600000000000000000000000300000002000000000000000000"
    "0000000000000200000000000000010000000000000002000000000000000000000000000000000000000300000006000000"
    "00000000742f61742f6200000100000000000000000000000100000001000000000000006100000000000000000000000300"
    "000006000000000000006f6e6574776f0000"
)
GOLDEN_CHECKSUM = 1676942805


def test_a_chunk_of_the_first_version_is_still_read() -> None:
    """Bytes as pyarrow 26 and this code wrote them; whatever changes, they stay readable or the version grows."""
    data = bytes.fromhex(GOLDEN)
    header = (row_id(5, 1000), 2, 2, 80, 7, 300, 1_767_225_600_000_000, 1_767_225_600_000_000, 268, 0, len(data))
    row = Row(*header, GOLDEN_CHECKSUM, None, data)
    records = unpack(row)
    assert records.events.column("topic").to_pylist() == ["t/a", "t/b"]
    assert records.events.column("key").to_pylist() == ["a", None]
    assert records.events.column("data").to_pylist() == [b"one", b"two"]
    assert records.events.column("offset").to_pylist() == [1000, 1001]
