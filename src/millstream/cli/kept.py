"""`millstream state` of a handler: what it keeps of each key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from millstream.cli import output
from millstream.cli.keyed import Keyed
from millstream.cli.place import open_log

if TYPE_CHECKING:
    from millstream.app import App, Handler
    from millstream.settings import Settings


def keeping(app: App, name: str) -> Handler | None:
    """The handler of this group, or whose function has this name, if it keeps a state."""
    found = [handler for handler in app.handlers if handler.signature.state is not None]
    exact = [handler for handler in found if handler.group == name]
    near = [handler for handler in found if handler.group.endswith(f".{name}")]
    return (exact or near)[0] if len(exact or near) == 1 else None


async def show(settings: Settings, handler: Handler, key: str | None, limit: int, json: bool) -> None:
    """Print the states of a handler's keys, as of its last commit."""
    from millstream.clock import to_text
    from millstream.errors import UnknownStreamError
    from millstream.worker.states import states_of
    from millstream.worker.wakes import wakes_of

    rows, size, times = Keyed({"handler": handler.group}, key, limit, json), 0, list[int]()
    async with open_log(settings) as log:
        spec = (await log.streams()).get(handler.stream)
        if spec is None:
            raise UnknownStreamError(
                f"handler {handler.group!r} reads the stream {handler.stream!r}, which is not in this log yet"
            )
        for partition in range(spec.partitions):
            chunks = await log.state(handler.group, partition)
            for of, saved in states_of(chunks).items():
                size += len(saved) if rows.add(partition, of, saved) else 0
            times += [wake.at for of, wake in wakes_of(chunks).items() if key in (None, of)]
    if not json:
        facts = {"handler": handler.group, "keys with a state": f"{rows.count:,}", "saved state": f"{size:,} bytes"}
        if times:
            facts["keys to be woken"] = f"{len(times):,}, the next one at {to_text(min(times))}"
        output.show_tables(output.make_facts(facts), *rows.tables("keys", "state"))
