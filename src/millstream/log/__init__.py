"""The durable log: streams in partitions, groups that read them, transactions that commit.

`contract` says what every backend promises; `router` finds the partitions of a topic; `start` where to begin reading;
`merge` puts the partitions of a stream into one sequence; `draft` gathers a transaction and `records` are those of a
partition in memory, for every backend; `sqlite` is the embedded backend, `kafka` the one for many machines.
"""

from millstream.log.contract import (
    EARLIEST,
    LATEST,
    Accounts,
    Bounds,
    Committed,
    Group,
    GroupAccount,
    GroupStatus,
    Log,
    Poll,
    Position,
    StreamAccount,
    StreamSpec,
    Transaction,
)
from millstream.log.hearing import hear
from millstream.log.measures import groups_source
from millstream.log.merge import Merge
from millstream.log.partition import partition_of
from millstream.log.router import Router, Target, distribute
from millstream.log.start import From, find_position, find_positions, find_stream, parse_from

__all__ = [
    "EARLIEST",
    "LATEST",
    "Accounts",
    "Bounds",
    "Committed",
    "From",
    "Group",
    "GroupAccount",
    "GroupStatus",
    "Log",
    "Merge",
    "Poll",
    "Position",
    "Router",
    "StreamAccount",
    "StreamSpec",
    "Target",
    "Transaction",
    "distribute",
    "find_position",
    "find_positions",
    "find_stream",
    "groups_source",
    "hear",
    "parse_from",
    "partition_of",
]
