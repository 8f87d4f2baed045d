"""SUBSCRIBE and UNSUBSCRIBE: what a session is granted, and how it is told."""

from __future__ import annotations

from millstream.errors import NotAuthorizedError, TopicError
from millstream.mqtt.action import SHARED, Granted, Subscribed, Unsubscribed
from millstream.mqtt.handshake import because
from millstream.mqtt.memory import Memory
from millstream.mqtt.packet import Suback, Subscribe, Subscription, Unsuback, Unsubscribe
from millstream.mqtt.reason import Reason, violation
from millstream.rights import Right, Rights
from millstream.topic import check_filter

_GRANTED = (Reason.SUCCESS, Reason.GRANTED_QOS_1, Reason.GRANTED_QOS_2)  # by QoS


def subscribe(packet: Subscribe, memory: Memory, rights: Rights, most: int) -> tuple[Suback, list[Subscribed]]:
    """Grant what a client asks for and has a right to, up to `most` subscriptions. Raises `ProtocolError`."""
    if any(asked.no_local and asked.filter.startswith(SHARED) for asked in packet.subscriptions):
        raise violation("a shared subscription with No Local")  # 3.8.3.1
    reasons: list[Reason] = []
    granted: list[Subscribed] = []
    text = ""
    for asked in packet.subscriptions:
        try:
            reason = _judge(asked, memory, rights, most)
        except NotAuthorizedError as error:
            reason, text = Reason.NOT_AUTHORIZED, str(error)
        reasons.append(reason)
        if reason < Reason.UNSPECIFIED_ERROR:
            granted.append(_grant(asked, packet.properties.subscription_identifiers, memory))
    return Suback(packet_id=packet.packet_id, reasons=tuple(reasons), properties=because(text)), granted


def unsubscribe(packet: Unsubscribe, memory: Memory) -> tuple[Unsuback, list[Unsubscribed]]:
    """End subscriptions."""
    found = [memory.subscriptions.pop(each, None) for each in packet.filters]
    reasons = (Reason.NO_SUBSCRIPTION_EXISTED if each is None else Reason.SUCCESS for each in found)
    ended = [Unsubscribed(each) for each in found if each is not None]
    memory.changed |= bool(ended)
    return Unsuback(packet_id=packet.packet_id, reasons=tuple(reasons)), ended


def _grant(asked: Subscription, identifiers: tuple[int, ...], memory: Memory) -> Subscribed:
    granted = Granted.of(asked, identifiers)
    replaced = memory.subscriptions.get(asked.filter)
    memory.subscriptions[asked.filter] = granted
    memory.changed = True
    wants_retained = asked.wants_retained(is_new=replaced is None) and not granted.is_shared
    return Subscribed(granted, replaced, wants_retained)


def _judge(asked: Subscription, memory: Memory, rights: Rights, most: int) -> Reason:
    wanted = asked.filter
    if wanted.startswith(SHARED):
        group, _, wanted = wanted.removeprefix(SHARED).partition("/")
        if not group or "+" in group or "#" in group:  # 4.8.2
            return Reason.TOPIC_FILTER_INVALID
    try:
        check_filter(wanted)
    except TopicError:
        return Reason.TOPIC_FILTER_INVALID
    rights.check(Right.SUBSCRIBE, wanted)
    if asked.filter not in memory.subscriptions and len(memory.subscriptions) >= most:
        return Reason.QUOTA_EXCEEDED
    return _GRANTED[asked.qos]
