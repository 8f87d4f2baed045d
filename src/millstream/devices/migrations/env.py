"""What Alembic runs: the steps that are missing, over the connection that it is given."""

from __future__ import annotations

from alembic import context

from millstream.devices.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
