"""Taking away everything that a log has on its brokers."""

from __future__ import annotations

from millstream.log.kafka.admin import Admin
from millstream.log.kafka.calls import Calls
from millstream.log.kafka.cluster import Cluster


async def erase(cluster: Cluster) -> None:
    """Delete all topics and groups behind the prefix. Nobody may use them any more. `LogUnavailableError`; `ValueError`
    without a prefix, which would take away everybody's."""
    if not cluster.prefix:
        raise ValueError("only what has a prefix is erased")
    calls = Calls("kafka-erase")
    try:
        await calls.run(_erase, cluster)
    finally:
        await calls.close()


def _erase(cluster: Cluster) -> None:
    admin = Admin(cluster)
    for topic in sorted(admin.topics()):
        if topic.startswith(cluster.prefix):
            admin.delete(topic)
    admin.delete_groups([group for group in admin.groups() if group.startswith(cluster.prefix)])
