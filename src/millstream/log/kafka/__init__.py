"""The log on Apache Kafka, or any server of its protocol. `docs/kafka.md` says what is kept where."""

from millstream.log.kafka.cluster import Cluster
from millstream.log.kafka.erase import erase
from millstream.log.kafka.log import KafkaLog

__all__ = ["Cluster", "KafkaLog", "erase"]
