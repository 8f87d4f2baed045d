"""An application with dead letters, and an operator's desk for it."""

from __future__ import annotations

from typing import Any

from tests.support.plant import Plant

from millstream.app import App, Retry
from millstream.event import Event
from millstream.ledger import Letter, equations
from millstream.ledger.deadletters import Wanted, letters

ONCE = Retry(attempts=1)


class Desk:
    """An app with a handler that fails until it is mended, and others that read the same stream."""

    def __init__(self) -> None:
        self.app = App("plant")
        self.stream = self.app.stream("orders", "orders/{shop}", key="shop")
        self.app.stream("copies", "copies/{shop}", key="shop")
        self.mended = False
        self.booked: list[Event] = []
        self.audited: list[Event] = []
        self.copied: list[Event] = []

        @self.app.on(self.stream, group="book", retry=ONCE)
        async def book(event: Event) -> Event:
            if not self.mended and event.data["n"] % 2:
                raise ValueError(f"{event.data['n']} is odd")
            self.booked.append(event)
            return Event(topic=f"copies/{event.key}", payload=event.payload, headers=event.headers)

        @self.app.on(self.stream, group="audit", batch=True)
        def audit(events: list[Event]) -> None:
            self.audited += events

        @self.app.on("orders/#", group="elsewhere")
        async def elsewhere(event: Event) -> None:
            self.copied.append(event)

        self.app.query(
            "counted",
            "SELECT shop, count(*) AS n FROM orders GROUP BY shop, TumblingWindow(second, 10)",
            start="earliest",
        )

        @self.app.on(
            self.app.query("x", "SELECT shop, count(*) AS n FROM copies GROUP BY shop, TumblingWindow(hour, 1)")
        )
        async def nothing(data: dict[str, Any]) -> None: ...


async def failing(plant: Plant) -> Desk:
    """Five orders, of which 1 and 3 failed."""
    desk = Desk()
    await plant.start(desk.app)
    await plant.publish(*((f"orders/{n % 2}", {"n": n}) for n in range(5)))
    await settled(plant)
    return desk


async def settled(plant: Plant) -> None:
    for group in ("book", "audit", "elsewhere", "counted", "x"):
        await plant.caught_up(group)
    assert not [str(row) for row in equations(await plant.log.accounts()) if not row.holds]


async def found(plant: Plant, **wanted: Any) -> list[Letter]:
    return [letter async for letter in letters(plant.log, Wanted(**wanted))]
