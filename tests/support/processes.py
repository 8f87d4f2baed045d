"""Python in a process of its own: what it loads, and pytest in the folder of somebody's project."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.millstream import environment


def loaded(program: str, *names: str) -> list[str]:
    """The modules that are loaded after a program, of those whose name begins so."""
    code = f"{program}\nimport json, sys\nprint(json.dumps([n for n in sys.modules if n.startswith({names!r})]))"
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment())
    found: list[str] = json.loads(ran.stdout)
    return found


def run_pytest(folder: Path, *options: str) -> tuple[int, str]:
    """Its exit code, and what it prints. Without a plugin that takes a second to load and that nobody here wants."""
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:schemathesis"]
    ran = subprocess.run(
        [*command, *options], cwd=folder, capture_output=True, text=True, timeout=120, check=False, env=environment()
    )
    return ran.returncode, ran.stdout + ran.stderr
