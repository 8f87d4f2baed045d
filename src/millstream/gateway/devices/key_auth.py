"""API keys, beside everybody else who comes in: whoever shows one as a bearer token has the rights of its role.

A key of a device comes in as that device, for as long as it may connect.
"""

from __future__ import annotations

from collections.abc import Callable

from millstream.devices import Admitted, Name, Registry, may_connect
from millstream.devices.api_key import ApiKey
from millstream.devices.api_keys import ApiKeys
from millstream.errors import RegistryUnavailableError
from millstream.gateway.listeners.auth import Authenticator, BusyError, Credentials, Identity, NotAuthenticatedError
from millstream.rights import Rights, RoleRights

_KIND = "api_key"


class KeyAuthenticator:
    """See `Authenticator`: `others` decides about who shows no key. `rights` gives those of a device."""

    def __init__(
        self, others: Authenticator, keys: ApiKeys, registry: Registry, rights: Callable[[str, str], Rights]
    ) -> None:
        self._others = others
        self._keys = keys
        self._registry = registry
        self._rights = rights

    def recall(self, credentials: Credentials) -> Identity | None:
        """See `Authenticator`."""
        if credentials.bearer is None:
            return self._others.recall(credentials)
        key = self._keys.find(credentials.bearer)
        if key is None or key.device is not None:
            return None
        return Identity(f"key {key.id}", RoleRights(key.role))

    async def authenticate(self, credentials: Credentials) -> Identity:
        """See `Authenticator`."""
        if credentials.bearer is None:
            return await self._others.authenticate(credentials)
        key = self._keys.find(credentials.bearer)
        if key is None:
            raise NotAuthenticatedError("the API key is wrong, has expired, or was revoked")
        if key.device is None:
            return Identity(f"key {key.id}", RoleRights(key.role))
        return await self._as_device(key, Name.parse(key.device))

    def close(self) -> None:
        """See `Authenticator`."""
        self._others.close()

    async def _as_device(self, key: ApiKey, name: Name) -> Identity:
        try:
            device = await self._registry.find(name)
            parent = await self._registry.find(Name(name.device)) if name.module else None
        except RegistryUnavailableError as error:
            raise BusyError("the registry of devices does not answer; try again later") from error
        if device is None or not may_connect(device, parent):
            raise NotAuthenticatedError(f"device {str(name)!r}, which the API key is for, is not there or is disabled")
        return Identity(str(name), self._rights(name.device, ""), Admitted(name, device.generation, _KIND, key.id))
