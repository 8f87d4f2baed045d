"""The MQTT 5 tests of gmqtt's source package, which its authors run against brokers, run against us."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from tests.support.gateway import Plant

CI = Path(__file__).parents[2] / ".ci"
SOURCE = CI / "gmqtt-source"  # by itself, since its package `tests` would hide ours
_SECONDS = 240
_LEFT_OUT = (
    "test_basic_ssl",  # wants a certificate that is publicly trusted, on port 8883; test_listeners.py is about TLS
    "test_assigned_clientid",  # gmqtt makes an identifier of its own for "", so that none is assigned (3.2.2.3.7)
)


async def test_they_pass(running: Plant) -> None:
    if not (SOURCE / "tests").is_dir():
        pytest.skip("the source package of gmqtt is not there; .ci/run fetches it")
    host, port = running.address
    environment = {**os.environ, "PYTHONPATH": f"{CI / 'gmqtt'}:{SOURCE}", "HOST": host, "PORT": str(port)}
    environment.pop("TOKEN", None)
    # They sleep most of the time, and topics and clients have names of their own in each process.
    options = ["-n", "8", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(SOURCE)]
    options += ["-o", "asyncio_default_fixture_loop_scope=function"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "tests/test_mqtt5.py", "-k", f"not ({' or '.join(_LEFT_OUT)})", *options),
        cwd=SOURCE,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(_SECONDS):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, out.decode()[-6_000:]
    assert "14 passed" in out.decode()
