"""The work of `millstream certs …`: X.509 certificates (RFC 5280) with keys on the curve P-256, as PEM files."""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from millstream.cli import output
from millstream.clock import SystemClock, to_datetime
from millstream.devices.name import Name
from millstream.errors import SettingsError

_SKEW = timedelta(minutes=5)  # that a device's clock may be behind
_MOST_NAME = 64  # characters of a common name (RFC 5280, A.1)


class _Authority:
    """What signs."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self.key = key


def make_authority(folder: Path, name: str, days: int) -> None:
    """`ca.pem` and `ca.key`."""
    key = _new_key()
    subject = _name(name)
    its = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = _builder(subject, subject, key, days).add_extension(x509.BasicConstraints(True, 0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True).add_extension(its, critical=False)
    _write(folder, "ca", builder.sign(key, hashes.SHA256()), key)
    output.tell(f"{folder / 'ca.pem'} is for whoever is to trust it; keep {folder / 'ca.key'} secret")


def make_server(folder: Path, hosts: Sequence[str], days: int) -> None:
    """`server.pem` and `server.key`, for hosts by name or address."""
    authority = _read_authority(folder)
    names = x509.SubjectAlternativeName([_host(each) for each in hosts])
    _sign(folder, authority, "server", hosts[0], days, ExtendedKeyUsageOID.SERVER_AUTH, names)
    output.tell(f"for a listener: certificate = {str(folder / 'server.pem')!r}, key = {str(folder / 'server.key')!r}")


def make_devices(folder: Path, devices: Sequence[str], days: int) -> None:
    """A certificate for each, by its id as the common name."""
    names = [str(Name.parse(each)) for each in devices]
    authority = _read_authority(folder)
    for name in names:
        made = _sign(folder, authority, quote(name, safe=""), name, days, ExtendedKeyUsageOID.CLIENT_AUTH, None)
        thumbprint = made.fingerprint(hashes.SHA256()).hex()
        output.write_line(json.dumps({"device": name, "thumbprint": thumbprint}))


def _sign(
    folder: Path,
    authority: _Authority,
    file: str,
    name: str,
    days: int,
    usage: x509.ObjectIdentifier,
    names: x509.SubjectAlternativeName | None,
) -> x509.Certificate:
    key = _new_key()
    issuer = authority.certificate
    builder = _builder(_name(name), issuer.subject, key, days)
    builder = builder.add_extension(x509.BasicConstraints(False, None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    made = builder.sign(authority.key, hashes.SHA256())
    _write(folder, file, made, key)
    return made


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = to_datetime(SystemClock().now())
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - _SKEW).not_valid_after(now + timedelta(days=days))


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _name(text: str) -> x509.Name:
    if not text or len(text) > _MOST_NAME:
        raise SettingsError(f"{text!r} cannot be a certificate's common name, which has 1 to {_MOST_NAME} characters")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        return x509.DNSName(text)
    except ValueError:
        raise SettingsError(f"{text!r} is no host name of ASCII, and no address") from None


def _read_authority(folder: Path) -> _Authority:
    try:
        certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(
            f"there is no authority in {folder} ({error}); make one with: millstream certs ca"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise SettingsError(f"{folder / 'ca.key'} is not the key of {folder / 'ca.pem'}")
    return _Authority(certificate, key)


def _write(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    """Both files; none that is there already is overwritten. The key is its owner's alone from the first byte on."""
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    contents = {
        folder / f"{name}.key": (pem, 0o600),
        folder / f"{name}.pem": (certificate.public_bytes(serialization.Encoding.PEM), 0o644),
    }
    for path in contents:
        if path.exists():
            raise SettingsError(f"{path} is there already; take it away first, or choose another folder with --dir")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, (content, mode) in contents.items():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
    except OSError as error:
        raise SettingsError(f"{folder}: {error.strerror}") from None
