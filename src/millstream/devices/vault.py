"""Secrets that a protocol needs back: encrypted at rest with AES-256-GCM, each bound to where it belongs.

The key is the setting `registry_key`, or the file `registry.key` in the data folder, which is made at the first start
and only its owner can read. Whoever has a copy of the registry without the key has no secrets.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from millstream.errors import RegistryError, SettingsError

FILE_NAME = "registry.key"
_KEY_BYTES = 32
_NONCE_BYTES = 12  # random: good for 2^32 secrets under one key (NIST SP 800-38D, 8.3)


class Vault:
    """Seals and opens with one key."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @staticmethod
    def new() -> Vault:
        """With a key that nobody else has, for a registry in memory."""
        return Vault(secrets.token_bytes(_KEY_BYTES))

    @staticmethod
    def open(folder: Path, setting: str | None) -> Vault:
        """With the key of the setting, else of the folder. `SettingsError` or `RegistryError` if it is none."""
        if setting:
            return Vault(
                _decode(
                    setting,
                    SettingsError(
                        "setting 'registry_key' is not 32 bytes in Base64; make one with: openssl rand -base64 32"
                    ),
                )
            )
        path = folder / FILE_NAME
        try:
            text = path.read_text() if path.exists() else _make(path)
        except OSError as error:
            raise RegistryError(
                f"{path} cannot be used: {error.strerror}; this user must be able to read and write it"
            ) from error
        return Vault(_decode(text, RegistryError(f"{path} is damaged; restore it from a backup")))

    def seal(self, secret: bytes, place: str) -> bytes:
        """Encrypt for a place."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, place.encode())

    def unseal(self, sealed: bytes, place: str) -> bytes:
        """What was sealed for this place. `RegistryError` if it was not, or not with this key."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place.encode())
        except (InvalidTag, ValueError):
            raise RegistryError(
                f"the secrets of {place} were encrypted with another key, or are damaged; restore {FILE_NAME} "
                "(or the setting 'registry_key') that belongs to this registry"
            ) from None


def _decode(text: str, error: Exception) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise error from None
    if len(key) != _KEY_BYTES:
        raise error
    return key


def _make(path: Path) -> str:
    """A new key, on disk before anything is encrypted with it: without it, that would be lost."""
    text = base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()
    fresh = path.with_suffix(".key.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return text
