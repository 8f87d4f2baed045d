"""TLS 1.2 and 1.3: certificates and revocation lists from files, which are read again when they change."""

from __future__ import annotations

import hashlib
import re
import ssl
from asyncio import BaseTransport
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509

from millstream.errors import SettingsError
from millstream.gateway.listeners.auth import ShownCertificate
from millstream.settings import ListenerSettings

_LIST = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


class Certificate:
    """A listener's certificate, and whose certificates it trusts: `context` is what the files said when they were read
    last, `revoked` the lists among them. `SettingsError` naming the file that cannot be used."""

    def __init__(self, settings: ListenerSettings, failed: Callable[[str], None] = lambda why: None) -> None:
        """`failed` is told why, when a client does not come through the handshake."""
        assert settings.certificate is not None, "a setting that TLS must have"
        self._object = _observed(failed)
        self._chain, self._key = settings.certificate, settings.key or settings.certificate
        self._authorities, self._list = settings.client_ca, settings.client_crl
        self._times = self._now()
        self.context, self.revoked = self._read()

    def refresh(self) -> bool:
        """Read the files again if they have changed; whether they have. `SettingsError` if they cannot be used, and
        then the old ones stay."""
        times = self._now()
        if times == self._times:
            return False
        self._times = times
        self.context, self.revoked = self._read()
        return True

    @property
    def _files(self) -> list[Path]:
        return [each for each in (self._chain, self._key, self._authorities, self._list) if each is not None]

    def _now(self) -> list[int]:
        """When they were written; 0 for one that is not there, as for a moment while it is replaced."""
        return [path.stat().st_mtime_ns if path.exists() else 0 for path in self._files]

    def _read(self) -> tuple[ssl.SSLContext, Sequence[x509.CertificateRevocationList]]:
        """A context of its own for each reading: what is no longer in a file is not trusted any more, and nobody goes
        on with a session of TLS that an earlier one began."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.sslobject_class = self._object
        revoked: list[x509.CertificateRevocationList] = []
        try:
            context.load_cert_chain(self._chain, self._key)
            if self._authorities is not None:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(self._authorities)
            if self._list is not None:
                revoked = [x509.load_pem_x509_crl(each) for each in _LIST.findall(self._list.read_bytes())]
                if not revoked:
                    raise ValueError(f"{self._list} has no revocation list")
                context.load_verify_locations(self._list)
                context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        except (OSError, ssl.SSLError, ValueError) as error:
            names = ", ".join(str(path) for path in self._files)
            raise SettingsError(f"setting 'listeners': {names} cannot be used: {error}; PEM files are wanted") from None
        return context, revoked


def _observed(failed: Callable[[str], None]) -> type[ssl.SSLObject]:
    """TLS of a connection, which tells of a handshake that fails: the event loop drops such a connection in silence."""

    class Observed(ssl.SSLObject):
        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                failed((error.reason or str(error)).lower().replace("_", " "))
                raise

    return Observed


def shown_by(transport: BaseTransport) -> ShownCertificate | None:
    """The certificate that a client has shown, which was checked. None without one, or one without a common name."""
    found = transport.get_extra_info("peercert")
    if not found:
        return None
    names = (value for part in found.get("subject", ()) for name, value in part if name == "commonName")
    common_name, raw = next(names, None), _raw(transport)
    if common_name is None or raw is None:
        return None
    digests = hashlib.sha256(raw).hexdigest(), hashlib.sha1(raw, usedforsecurity=False).hexdigest()
    return ShownCertificate(common_name, digests, _chain(transport.get_extra_info("ssl_object")))


def _chain(spoken: ssl.SSLObject) -> tuple[bytes, ...]:
    """What the client has shown, and by whom it was found good. Until Python 3.13, `ssl` has that for itself only."""
    if hasattr(spoken, "get_verified_chain"):
        return tuple(spoken.get_verified_chain())
    chain: Sequence[Any] = spoken._sslobj.get_verified_chain()  # type: ignore[attr-defined]
    return tuple(ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in chain)


def _raw(transport: BaseTransport) -> bytes | None:
    spoken = transport.get_extra_info("ssl_object")
    raw: bytes | None = spoken.getpeercert(binary_form=True) if spoken is not None else None
    return raw


def is_revoked(transport: BaseTransport, lists: Sequence[x509.CertificateRevocationList]) -> bool:
    """Whether the certificate that a client has shown is on one of these lists."""
    raw = _raw(transport)
    if raw is None:
        return False
    its = x509.load_der_x509_certificate(raw)
    number = its.serial_number
    return any(
        each.issuer == its.issuer and each.get_revoked_certificate_by_serial_number(number) is not None
        for each in lists
    )
