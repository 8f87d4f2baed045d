"""Any garbage is a packet, the beginning of one, or a `ProtocolError`: never another error, never a hang, and never
more memory than its bytes warrant. `MILLSTREAM_FUZZ` packets are tried instead of a few thousand."""

from __future__ import annotations

import os
import random

import pytest
from tests.mqtt.test_session import Client
from tests.support.packets import SAMPLES

from millstream.mqtt import packet as p
from millstream.mqtt.action import Connecting, Ended
from millstream.mqtt.decode import decode
from millstream.mqtt.encode import encode
from millstream.mqtt.packet import Packet, Version
from millstream.mqtt.reason import ProtocolError
from millstream.mqtt.session import State

ROUNDS = int(os.environ.get("MILLSTREAM_FUZZ", "5000"))
LIMIT = 4_096

samples = pytest.mark.parametrize(("packet", "version"), SAMPLES, ids=lambda value: type(value).__name__)


@samples
def test_every_change_of_a_byte(packet: Packet, version: Version) -> None:
    data = encode(packet, version)
    for position in range(len(data)):
        for value in range(256):
            changed = data[:position] + bytes((value,)) + data[position + 1 :]
            try:
                found = decode(changed, version=version, limit=LIMIT)
            except ProtocolError:
                continue
            if found is not None:
                assert found[1] <= len(changed)
                again = encode(found[0], version)
                assert decode(again, version=version) == (found[0], len(again)), "what is understood can be said"


@pytest.mark.parametrize("seed", range(4))
def test_a_session_takes_any_mixture_of_packets_and_rubbish(seed: int) -> None:
    source = random.Random(seed)
    client: Client | None = None
    for _ in range(ROUNDS // 4):
        if client is None or client.session.state is State.ENDED:
            version = source.choice(list(Version))
            client = Client(version)
            client.connect(clean_start=True)
        for action in client.write(_packet(source, client.version)):
            assert not isinstance(action, Connecting)
            if isinstance(action, Ended):
                assert client.session.state is State.ENDED
        client.session.outgoing.take()
        client.session.outgoing.unwritten = 0
        assert len(client.session.rest) < 1 << 20


def _packet(source: random.Random, version: Version) -> bytes:
    """A packet of a client, a packet with some bytes changed or cut, or none at all."""
    mine = [packet for packet, its in SAMPLES if its is version and not isinstance(packet, p.Connect | p.Disconnect)]
    data = bytearray(encode(source.choice(mine), version))
    for _ in range(source.choice([0, 0, 1, 2, 5])):
        data[source.randrange(len(data))] = source.randrange(256)
    if source.random() < 0.1:
        del data[source.randrange(len(data)) :]
    return bytes(data) if source.random() < 0.98 else source.randbytes(source.randrange(60))
