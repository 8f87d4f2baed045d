"""`millstream certs …`: what it makes lets a device in, and nobody else."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
from pathlib import Path
from typing import Any

import pytest

from millstream.cli import frame


def certs(*arguments: str, folder: Path) -> int:
    return frame.execute(["certs", *arguments, "--dir", str(folder)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With an authority, a server and a device."""
    folder = tmp_path / "certs"
    assert certs("ca", "--name", "Plant 7", folder=folder) == 0
    assert certs("server", "localhost", "127.0.0.1", folder=folder) == 0
    assert certs("device", "press-1", "press-1/eye", folder=folder) == 0
    return folder


def server_side(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(folder / "ca.pem")
    return context


def client_side(folder: Path, device: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_cert_chain(folder / f"{device}.pem", folder / f"{device}.key")
    return context


async def handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> Any:
    """What the server sees of the client's certificate."""
    seen: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.set_result(writer.get_extra_info("peercert"))
        writer.close()

    listening = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=server)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=host)
        try:
            return await asyncio.wait_for(seen, 60)
        finally:
            writer.close()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_device_and_a_server_trust_each_other(folder: Path, host: str) -> None:
    seen = await handshake(server_side(folder), client_side(folder, "press-1%2Feye"), host)
    assert seen["subject"] == ((("commonName", "press-1/eye"),),)


async def test_another_name_of_the_server_is_not_trusted(folder: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(server_side(folder), client_side(folder, "press-1"), "elsewhere.example")


def test_keys_are_their_owners_and_nothing_is_overwritten(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.glob("*.key"))
    capfd.readouterr()
    before = (folder / "ca.pem").read_bytes()
    assert certs("ca", folder=folder) == 2
    assert "is there already" in capfd.readouterr().err
    assert (folder / "ca.pem").read_bytes() == before


def test_thumbprints_are_those_of_the_registry(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    assert certs("device", "press-2", folder=folder) == 0
    told = json.loads(capfd.readouterr().out)
    der = ssl.PEM_cert_to_DER_cert((folder / "press-2.pem").read_text())
    assert told == {"device": "press-2", "thumbprint": hashlib.sha256(der).hexdigest()}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("device", "a b"), "device id 'a b'"),
        (("device", "x" * 65), "1 to 64 characters"),
        (("server", "plänt.example"), "no host name"),
        (("ca", "--name", ""), "common name"),
    ],
)
def test_impossible_ones_are_told(
    folder: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    if arguments[0] == "ca":
        folder = folder / "other"
    capfd.readouterr()
    assert certs(*arguments, folder=folder) != 0
    assert told in capfd.readouterr().err


def test_without_an_authority_nothing_is_signed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert certs("server", "localhost", folder=tmp_path) == 2
    assert "millstream certs ca" in capfd.readouterr().err
