"""MQTT 3.1.1 and 5 without I/O: packets, their bytes, the fast scan, and the session of one connection.

Numbers in comments are sections of the MQTT 5.0 specification (OASIS, 7 March 2019)."""

from millstream.mqtt.action import Action, Connecting, Declined, Ended, Granted, Subscribed, Unsubscribed
from millstream.mqtt.allowance import Allowance
from millstream.mqtt.decode import decode
from millstream.mqtt.encode import encode, encode_message
from millstream.mqtt.handshake import SessionLimits, session_expiry
from millstream.mqtt.memory import Flight, Memory
from millstream.mqtt.message import Bundle, Expiring, Message
from millstream.mqtt.numbering import Numbering, topic_key
from millstream.mqtt.outgoing import Outcome, Outgoing
from millstream.mqtt.packet import Packet, Version, Will
from millstream.mqtt.properties import NOTHING, Properties
from millstream.mqtt.reason import ProtocolError, Reason
from millstream.mqtt.scan import Arrivals, Publisher, Read, scan
from millstream.mqtt.session import Session, State
from millstream.mqtt.wire import claimed_topic, text

__all__ = [
    "NOTHING",
    "Action",
    "Allowance",
    "Arrivals",
    "Bundle",
    "Connecting",
    "Declined",
    "Ended",
    "Expiring",
    "Flight",
    "Granted",
    "Memory",
    "Message",
    "Numbering",
    "Outcome",
    "Outgoing",
    "Packet",
    "Properties",
    "ProtocolError",
    "Publisher",
    "Read",
    "Reason",
    "Session",
    "SessionLimits",
    "State",
    "Subscribed",
    "Unsubscribed",
    "Version",
    "Will",
    "claimed_topic",
    "decode",
    "encode",
    "encode_message",
    "scan",
    "session_expiry",
    "text",
    "topic_key",
]
