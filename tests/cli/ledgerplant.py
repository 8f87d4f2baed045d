"""For the commands of the ledger: a handler that cannot stand odd numbers, one that takes all, and a query."""

from typing import Any

from millstream import App, Event
from millstream.app import Retry

app = App("plant")
app.stream("orders", topics="orders/{shop}", key="shop")


@app.on("orders/#", group="book", retry=Retry(attempts=1))
def book(data: dict[str, Any]) -> None:
    if data["n"] % 2 and not data.get("mended"):
        raise ValueError(f"{data['n']} is odd")


@app.on("orders/#", group="audit")
def audit(event: Event) -> None: ...


app.query(
    "counted",
    """
    SELECT shop, count(*) AS n, System.Timestamp() AS window_end
    FROM orders TIMESTAMP BY ts
    WHERE n < 100
    GROUP BY shop, TumblingWindow(second, 10)
    HAVING count(*) < 50
    """,
)
