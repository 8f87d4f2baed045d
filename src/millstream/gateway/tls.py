"""TLS 1.2 and 1.3 for listeners: certificates from files, which are read again when they change."""

from __future__ import annotations

import ssl
from asyncio import BaseTransport
from pathlib import Path

from millstream.errors import SettingsError
from millstream.settings import ListenerSettings


class Certificate:
    """A listener's certificate. `SettingsError` naming the file that cannot be used."""

    def __init__(self, settings: ListenerSettings) -> None:
        assert settings.certificate is not None, "a setting that TLS must have"
        self._files = [settings.certificate, settings.key or settings.certificate]
        self._clients = settings.client_ca
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._clients is not None:
            self.context.verify_mode = ssl.CERT_REQUIRED
        self._times = self._load()

    def refresh(self) -> bool:
        """Read the files again if they have changed: new connections get the new certificate. Whether they were read;
        `SettingsError` if they cannot be used, and then the old one stays."""
        if self._times == _times(self._watched):
            return False
        self._times = self._load()
        return True

    @property
    def _watched(self) -> list[Path]:
        return [*self._files, *([self._clients] if self._clients is not None else [])]

    def _load(self) -> list[int]:
        times = _times(self._watched)
        try:
            self.context.load_cert_chain(self._files[0], self._files[1])
            if self._clients is not None:
                self.context.load_verify_locations(self._clients)
        except (OSError, ssl.SSLError) as error:
            names = ", ".join(str(path) for path in self._watched)
            raise SettingsError(f"setting 'listeners': {names} cannot be used: {error}; PEM files are wanted") from None
        return times


def _times(paths: list[Path]) -> list[int]:
    """When they were written; 0 for one that is not there, as for a moment while it is replaced."""
    return [path.stat().st_mtime_ns if path.exists() else 0 for path in paths]


def common_name(transport: BaseTransport) -> str | None:
    """The common name of the certificate that a client has shown, which was checked."""
    found = transport.get_extra_info("peercert")
    if not found:
        return None
    return next((value for part in found.get("subject", ()) for name, value in part if name == "commonName"), None)
