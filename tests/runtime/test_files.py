"""A server that is started with a shell's limit of open files takes as many connections as its settings say."""

from __future__ import annotations

import subprocess
import sys

import pytest

resource = pytest.importorskip("resource")

SCRIPT = """
import logging, resource, sys
from millstream.runtime.files import allow_connections
from millstream.settings import Limits
logging.basicConfig(stream=sys.stdout, format="%(message)s")
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
allow_connections(Limits(connections=100, readers=50))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "then", "told"),
    [(256, 2_000, 1_150, False), (1_500, 2_000, 1_500, False), (256, 1_000, 1_000, True)],
)
def test_the_limit_is_raised_as_far_as_it_may_be(soft: int, hard: int, then: int, told: bool) -> None:
    command = [sys.executable, "-c", SCRIPT, str(soft), str(hard)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == str(then)
    assert ("not all of 'limits.connections' (100) can be there; raise its limit to 1150" in out) is told
