"""Authorities of enrollments: certificates (X.509) that have signed those of devices.

A listener has checked that somebody whom it trusts vouches for a client's certificate, that it has not ended and is not
revoked: it has found a chain, in which each certificate is signed by the next one, up to one that it trusts. Here is
decided which enrollment the first one belongs to: one whose authority has signed a certificate of the chain. So an
enrollment may name the one that signs devices, or one above it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from millstream.clock import Micros, to_datetime
from millstream.errors import DeviceError

_MOST_CHARACTERS = 32 << 10
_MOST = 8  # of an enrollment: an old and a new one, and some to spare


def check_authority(pem: str) -> str:
    """`pem`, if it is certificates of authorities; else a `DeviceError`."""
    if len(pem) > _MOST_CHARACTERS:
        raise DeviceError(f"an authority of {len(pem)} characters; there may be {_MOST_CHARACTERS}")
    try:
        found = _certificates(pem)
    except ValueError:
        raise DeviceError("an authority is one or more certificates in PEM") from None
    if not 1 <= len(found) <= _MOST:
        raise DeviceError(f"an enrollment has 1 to {_MOST} authorities; these are {len(found)}")
    for each in found:
        if not _is_authority(each):
            name = each.subject.rfc4514_string()
            raise DeviceError(f"the certificate of {name} is no authority's: it has not the basic constraint CA")
    return pem


def has_signed(pem: str, chain: Sequence[bytes], now: Micros) -> bool:
    """Whether one of the authorities, which is valid now, has signed a certificate of a chain (in DER) that was
    checked."""
    its = [x509.load_der_x509_certificate(each) for each in chain]
    moment = to_datetime(now)
    valid = [each for each in _certificates(pem) if each.not_valid_before_utc <= moment <= each.not_valid_after_utc]
    return any(_is_issuer(authority, each) for authority in valid for each in its)


@lru_cache(maxsize=256)
def _certificates(pem: str) -> tuple[x509.Certificate, ...]:
    return tuple(x509.load_pem_x509_certificates(pem.encode()))


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _is_issuer(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True
