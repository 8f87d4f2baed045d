"""A query of NEXMark: that which the environment's NEXMARK names."""

import os
from dataclasses import dataclass
from datetime import datetime

from millstream import App

QUERIES = {
    "q0": "SELECT auction, payload.bidder, price, dateTime, extra FROM bids",
    "q1": "SELECT auction, payload.bidder, round(0.908 * price, 3) AS price, dateTime, extra FROM bids",
    "q2": "SELECT auction, price FROM bids WHERE auction % 123 = 0",
    "q3": """
        SELECT person.name, person.city, person.state, auction.id FROM market auction TIMESTAMP BY dateTime
        JOIN market person TIMESTAMP BY dateTime
        ON auction.who = person.who AND DATEDIFF(second, auction, person) BETWEEN -10 AND 10
        WHERE auction.category = 10 AND person.state IN ('OR', 'ID', 'CA')""",
    "q5": """
        WITH counts AS (
            SELECT auction, count(*) AS num FROM bids TIMESTAMP BY dateTime
            GROUP BY auction, HoppingWindow(second, 10, 2))
        SELECT arg_max(auction, num * 1000000000 - auction) AS auction, max(num) AS num FROM counts
        GROUP BY System.Timestamp()""",
    "q7": """
        SELECT arg_max(auction, price) AS auction, max(price) AS price, arg_max(payload.bidder, price) AS bidder
        FROM bids TIMESTAMP BY dateTime GROUP BY TumblingWindow(second, 10)""",
    "q8": """
        SELECT who AS id, max(name) AS name FROM market TIMESTAMP BY dateTime GROUP BY who, TumblingWindow(second, 10)
        HAVING count(name) > 0 AND count(category) > 0""",
    "q11": """
        SELECT bidder, count(*) AS bid_count FROM bids TIMESTAMP BY dateTime
        GROUP BY bidder, SessionWindow(second, 10)""",
    "q12": """
        SELECT bidder, count(*) AS bid_count FROM bids TIMESTAMP BY dateTime
        GROUP BY bidder, TumblingWindow(second, 10)""",
}


@dataclass
class Bid:
    bidder: int
    auction: int
    price: int
    dateTime: datetime  # noqa: N815 (as NEXMark calls it)
    extra: str


@dataclass
class Market:
    """A person, or an auction."""

    id: int
    dateTime: datetime  # noqa: N815
    name: str | None = None
    city: str | None = None
    state: str | None = None
    category: int | None = None


app = App("nexmark", catch_all=False)
name = os.environ["NEXMARK"]

if name in ("q3", "q8"):
    topics = ["nexmark/person/{who}", "nexmark/auction/{who}"]
    stream = app.stream("market", topics=topics, key="who", payload=Market)
else:
    stream = app.stream("bids", topics="nexmark/bid/{bidder}", key="bidder", payload=Bid)

app.query("answers", QUERIES[name], start="earliest")
