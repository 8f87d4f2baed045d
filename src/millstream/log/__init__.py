"""The durable log: streams in partitions, groups that read them, transactions that commit.

`contract` says what every backend promises; `router` finds the partitions of a topic; `sqlite` is the embedded
backend.
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
from millstream.log.router import Router, Target, distribute, partition_of

__all__ = [
    "EARLIEST",
    "LATEST",
    "Accounts",
    "Bounds",
    "Committed",
    "Group",
    "GroupAccount",
    "GroupStatus",
    "Log",
    "Poll",
    "Position",
    "Router",
    "StreamAccount",
    "StreamSpec",
    "Target",
    "Transaction",
    "distribute",
    "partition_of",
]
