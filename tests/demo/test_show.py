"""The demo as a person starts it."""

from __future__ import annotations

import subprocess
import sys


def test_the_demo_catches_the_failure_and_its_counts_balance() -> None:
    demo = [sys.executable, "-m", "millstream", "demo", "--for", "30"]
    ended = subprocess.run(demo, capture_output=True, text=True, timeout=120, check=False)
    said = ended.stdout + ended.stderr
    assert ended.returncode == 0, said
    assert "The failure of the machine was caught" in said
    assert "✗" not in said
    assert "✓ received by the gateway" in said
