"""Certificates for tests, revocation lists, and clients that show them."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from tests.support.mqtt import RawClient

from millstream.mqtt import Reason, Version
from millstream.mqtt import packet as p
from millstream.settings import ListenerSettings

OPENSSL = shutil.which("openssl")


def make_certificate(folder: Path, name: str, by: str | None = None, *, is_authority: bool = False) -> Path:
    """A certificate and key for a name, in one file; signed by itself, or by another one. It may sign others if it is
    an authority."""
    if OPENSSL is None:
        pytest.skip("openssl is not installed")
    file, request = folder / f"{name}.pem", folder / f"{name}.csr"
    key = folder / f"{name}.key"
    new = ["req", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-subj", f"/CN={name}"]
    if by is None:
        names = ["-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-x509"]
        run(*new, *names, "-out", str(file))
    else:
        run(*new, *(["-addext", "basicConstraints=critical,CA:TRUE"] if is_authority else []), "-out", str(request))
        signed = ["x509", "-req", "-in", str(request), "-CA", f"{folder / by}.pem", "-copy_extensions", "copy"]
        run(*signed, "-days", "2", "-out", str(file))
    file.write_text(file.read_text() + key.read_text())
    return file


def run(*arguments: str) -> None:
    assert OPENSSL is not None
    subprocess.run([OPENSSL, *arguments], check=True, capture_output=True)


def secure(folder: Path, protocol: Literal["mqtts", "wss", "https"] = "mqtts", **more: Path) -> ListenerSettings:
    certificate = folder / "localhost.pem"
    return ListenerSettings(address="127.0.0.1:0", protocol=protocol, certificate=certificate, **more)


def make_list(folder: Path, *revoked: str) -> bytes:
    """The revocation list of the authority."""
    pem = (folder / "authority.pem").read_bytes()
    now = datetime.now(UTC)
    made = x509.CertificateRevocationListBuilder(
        x509.load_pem_x509_certificate(pem).subject, now - timedelta(days=1), now + timedelta(days=1)
    )
    for name in revoked:
        number = x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes()).serial_number
        one = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now).build()
        made = made.add_revoked_certificate(one)
    key = load_pem_private_key((folder / "authority.key").read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    return made.sign(key, SHA256()).public_bytes(Encoding.PEM)


async def enter(folder: Path, address: tuple[str, int], name: str) -> RawClient | None:
    """A client that shows its certificate, or None if it is not let in."""
    context = ssl.create_default_context(cafile=str(folder / "localhost.pem"))
    context.load_cert_chain(folder / f"{name}.pem")
    try:
        client = RawClient(*await asyncio.open_connection(*address, ssl=context), Version.V5)
    except OSError:
        return None
    client.send(p.Connect(version=Version.V5, client_id=name))
    try:  # by TLS 1.3, a client learns of its refusal when it reads
        assert (await client.read(p.Connack)).reason is Reason.SUCCESS
    except (OSError, AssertionError):
        await client.close()
        return None
    return client
