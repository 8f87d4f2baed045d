"""A PostgreSQL server for tests: a real one, in a folder of its own, reached by a socket in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

WHY_NOT = "PostgreSQL's initdb and pg_ctl are not installed (apt-get install postgresql)"


def programs() -> Path | None:
    """Where PostgreSQL's programs are; Debian keeps them out of PATH."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists() and (place / "pg_ctl").exists()), None)


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of a new server's database `postgres`."""
    place = programs()
    assert place is not None, WHY_NOT
    user = "postgres" if os.getuid() == 0 else None  # it refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="millstream-pg-"))
    try:
        if user is not None:
            shutil.chown(folder, user)
        data = folder / "data"

        def run(program: str, *arguments: str) -> None:
            command = [str(place / program), "-D", str(data), *arguments]
            subprocess.run(command, user=user, cwd=folder, check=True, capture_output=True, text=True)

        run("initdb", "-U", "millstream", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        run("pg_ctl", "-l", str(folder / "log"), "-o", f"-k {folder} -c listen_addresses='' -F", "-w", "start")
        try:
            yield f"postgresql://millstream@/postgres?host={folder}"
        finally:
            with suppress(subprocess.CalledProcessError):
                run("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
