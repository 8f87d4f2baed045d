"""`python -m benchmarks`: Millstream and its peers on this machine, in one run, as ratios."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    curves,
    devices,
    handlers,
    http,
    idle,
    ingest,
    kafka,
    latency,
    machine,
    nexmark,
    pubsub,
    reaction,
    state,
    windows,
)
from benchmarks.peers import CACHE
from benchmarks.process import RunError, unwind_on_sigterm
from benchmarks.report import Section, write

_BENCHMARKS: dict[str, Callable[[bool], Section]] = {
    "ingest": ingest.run,
    "pubsub": pubsub.run,
    "http": http.run,
    "windows": windows.run,
    "nexmark": nexmark.run,
    "curves": curves.run,
    "state": state.run,
    "reaction": reaction.run,
    "handlers": handlers.run,
    "latency": latency.run,
    "idle": idle.run,
    "devices": devices.run,
    "kafka": kafka.run,
}


def main() -> int:
    options = _options()
    unwind_on_sigterm()
    CACHE.mkdir(exist_ok=True)
    facts = "\n".join(f"- {fact}" for fact in machine.describe(CACHE))
    print(facts)
    for name in options.only or _BENCHMARKS:
        try:
            section = _BENCHMARKS[name](options.quick)
        except RunError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        text = section.markdown()
        print(f"\n## {name}\n\n{text}")
        if options.write:
            write(options.write, name, f"{_when(options.quick)}\n\n{facts}\n\n{text}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(_BENCHMARKS), help="one of them (may be repeated)")
    parser.add_argument("--quick", action="store_true", help="minutes instead of half an hour, and noisy figures")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables between the markers of this page")
    return parser.parse_args()


def _when(quick: bool) -> str:
    return f"Measured on {time.strftime('%Y-%m-%d')}{', in a hurry (`--quick`)' if quick else ''}, on:"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
