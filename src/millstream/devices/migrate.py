"""Brings a database up to the tables of this Millstream, in one transaction."""

from __future__ import annotations

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from millstream.errors import RegistryError

_log = logging.getLogger(__name__)

_SCRIPTS = Path(__file__).parent / "migrations"


def migrate(connection: Connection, where: str) -> None:
    """Make the tables, or bring them up to date. `RegistryError` if a newer Millstream made them."""
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    found = MigrationContext.configure(connection).get_current_revision()
    scripts = ScriptDirectory.from_config(config)
    if found == scripts.get_current_head():
        return
    if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
        raise RegistryError(
            f"the registry {where} has format {found!r}, which this Millstream does not know; run the version of "
            "Millstream that made it"
        )
    if found is not None:
        _log.info("the registry %s is brought from format %s up to date", where, found)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
