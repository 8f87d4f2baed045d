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
    "q4": """
        WITH valid AS (
            SELECT auction.house, auction.id, auction.category, auction.expires, bid.price
            FROM trades auction TIMESTAMP BY dateTime JOIN trades bid TIMESTAMP BY dateTime
            ON auction.house = bid.house AND auction.id = bid.auction
            AND DATEDIFF(millisecond, auction, bid) BETWEEN 0 AND 400
            WHERE auction.id IS NOT NULL AND bid.price IS NOT NULL AND bid.dateTime <= auction.expires),
        winning AS (
            SELECT house, id, category, max(price) AS final FROM valid TIMESTAMP BY expires
            GROUP BY house, id, category, TumblingWindow(second, 10))
        SELECT category, avg(final) AS average, count(*) AS auctions FROM winning
        GROUP BY category, System.Timestamp()""",
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


@dataclass
class Trade:
    """An auction, or a bid."""

    dateTime: datetime  # noqa: N815
    id: int | None = None
    category: int | None = None
    expires: datetime | None = None
    auction: int | None = None
    price: int | None = None


app = App("nexmark", catch_all=False)
name = os.environ["NEXMARK"]

if name in ("q3", "q8"):
    topics = ["nexmark/person/{who}", "nexmark/auction/{who}"]
    stream = app.stream("market", topics=topics, key="who", payload=Market)
elif name == "q4":
    stream = app.stream("trades", topics="nexmark/trade/{house}", key="house", payload=Trade)
else:
    stream = app.stream("bids", topics="nexmark/bid/{bidder}", key="bidder", payload=Bid)

grace = "1s" if name == "q4" else 0  # auctions do not end in the order in which they are opened
app.query("answers", QUERIES[name], start="earliest", grace=grace)
