"""Another codec, mqtt-packet, which MQTT.js uses: it reads our packets, and its tests' packets are read by us."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.support.packets import SAMPLES

from millstream.mqtt.decode import decode
from millstream.mqtt.encode import encode
from millstream.mqtt.packet import Version
from millstream.mqtt.reason import ProtocolError

MODULES = Path(__file__).parents[2] / ".ci" / "node_modules"
NODE = shutil.which("node")

AGAIN = """
const mqtt = require('mqtt-packet');
const again = ([version, hex]) => {
  const parser = mqtt.parser({protocolVersion: version});
  let found = 'nothing';
  parser.on('packet', packet => { found = mqtt.generate(packet, {protocolVersion: version}).toString('hex'); });
  parser.on('error', error => { found = 'error: ' + error.message; });
  parser.parse(Buffer.from(hex, 'hex'));
  return found;
};
console.log(JSON.stringify(JSON.parse(require('fs').readFileSync(0)).map(again)));
"""

# Its tests, run in a frame that only writes down what they parse.
VECTORS = """
const Module = require('module');
const found = [];
let name = '';
const nothing = new Proxy(function () {}, {get: () => () => {}});
const frame = (its, run) => { name = its; try { run(nothing); } catch (error) {} };
const load = Module._load;
Module._load = function (request, ...rest) { return request === 'tape' ? frame : load.call(this, request, ...rest); };
const mqtt = require('mqtt-packet');
const make = mqtt.parser;
mqtt.parser = options => {
  const parser = make(options);
  const parse = parser.parse;
  parser.parse = function (data) {
    if (name.endsWith(' parse')) found.push([name, (options || {}).protocolVersion || 4, data.toString('hex')]);
    return parse.call(this, data);
  };
  return parser;
};
require('mqtt-packet/test.js');
console.log(JSON.stringify(found));
"""


def run(script: str, given: object = None) -> Any:
    if NODE is None or not (MODULES / "mqtt-packet").is_dir():
        pytest.skip("mqtt-packet is not installed; .ci/run does it")
    done = subprocess.run(
        [NODE, "-e", script], input=json.dumps(given), capture_output=True, text=True, check=True, cwd=MODULES.parent
    )
    return json.loads(done.stdout)


def test_another_codec_reads_what_we_write_and_writes_what_we_read() -> None:
    ours = [(int(version), encode(packet, version).hex()) for packet, version in SAMPLES]
    for (packet, version), theirs in zip(SAMPLES, run(AGAIN, ours), strict=True):
        assert not theirs.startswith(("error", "nothing")), (packet, theirs)
        found = decode(bytes.fromhex(theirs), version=version)
        assert found is not None
        assert found[0] == packet, theirs


TWO = "a property that is 0 or 1 has the value 2"
REFUSED = {
    "connack MQTT 5 with properties parse": TWO,  # as maximum QoS (3.2.2.3.4)
    "connack MQTT 5 with properties and doubled user properties parse": TWO,
}


def test_the_vectors_of_another_codec() -> None:
    vectors = [
        (name, Version(version), bytes.fromhex(data))
        for name, version, data in run(VECTORS)
        if b"MQIsdp" not in bytes.fromhex(data)
        and b"MQTT\x84" not in bytes.fromhex(data)  # 3.1, and bridges
        and not name.startswith("split")  # pieces of packets
    ]
    assert len(vectors) > 45
    for name, version, data in vectors:
        if name in REFUSED:
            with pytest.raises(ProtocolError, match=REFUSED[name]):
                decode(data, version=version)
            continue
        found = decode(data, version=version)
        assert found is not None, name
        packet, end = found
        assert end == len(data), name
        again = encode(packet, version)
        assert decode(again, version=version) == (packet, len(again)), name
