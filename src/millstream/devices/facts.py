"""What there is to know of a registry itself: which one it is, and that its secrets can be read."""

from __future__ import annotations

import secrets

from sqlalchemy import Connection, insert, select

from millstream.devices.tables import facts
from millstream.devices.vault import Vault

_ID, _SEALED = "id", "sealed"


def recognize(connection: Connection, vault: Vault) -> str:
    """The registry's id, which a new one gets. `RegistryError` if its secrets were sealed with another key."""
    found: dict[str, bytes] = {row.name: row.value for row in connection.execute(select(facts))}
    if _ID in found:
        vault.unseal(found[_SEALED], _SEALED)
        return found[_ID].decode()
    its_id = secrets.token_hex(8)
    rows = {_ID: its_id.encode(), _SEALED: vault.seal(its_id.encode(), _SEALED)}
    connection.execute(insert(facts), [{"name": name, "value": value} for name, value in rows.items()])
    return its_id
