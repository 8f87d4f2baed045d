"""Signed tokens, in the form of Azure's shared access signatures: who has the key proves it, and never shows it.

`SharedAccessSignature sr={resource}&sig={signature}&se={expiry}`, the fields in any order. The signature is HMAC-SHA256
over the resource exactly as it stands in the token, a line feed, and the expiry in seconds since 1970; see
https://learn.microsoft.com/azure/iot-hub/iot-hub-dev-guide-sas. Resource and signature are percent-encoded.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

from millstream.clock import SECOND, Micros, to_text
from millstream.errors import TokenError

SCHEME = "SharedAccessSignature"
_MOST_CHARACTERS = 4_096
_SKEW: Micros = 300 * SECOND  # that a device's clock may be wrong by, as Azure allows
_LONGEST: Micros = 366 * 24 * 3_600 * SECOND  # a token that is good for ever is a password


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was read, and not yet judged."""

    resource: str
    """As it stands in the token, which is what was signed."""
    signature: bytes
    expiry: str

    @staticmethod
    def parse(text: str) -> Token:
        """`TokenError` if it is none. Whatever comes in, it is nothing else."""
        scheme, _, rest = text.partition(" ")
        if scheme != SCHEME or len(text) > _MOST_CHARACTERS:
            raise TokenError(f"a token begins with {SCHEME!r} and has at most {_MOST_CHARACTERS} characters")
        fields = dict(_field(part) for part in rest.split("&"))
        try:
            signature = base64.b64decode(unquote(fields["sig"]), validate=True)
            resource, expiry = fields["sr"], fields["se"]
        except (KeyError, binascii.Error, ValueError):
            raise TokenError("a token has the fields sr, sig (Base64) and se") from None
        if not (expiry.isascii() and expiry.isdecimal() and len(expiry) <= 12):
            raise TokenError("the field se of a token is the second since 1970 at which it ends")
        return Token(resource, signature, expiry)

    def check(self, keys: Sequence[str], resources: Collection[str], now: Micros) -> str:
        """The key (in Base64) that has signed it, for one of the resources, and it is valid now; else a `TokenError`.
        All keys are tried, so that the time tells nothing."""
        signed = f"{self.resource}\n{self.expiry}".encode()
        fitting = [key for key in keys if hmac.compare_digest(_sign(key, signed), self.signature)]
        if not fitting:
            raise TokenError("the token's signature is wrong")
        if unquote(self.resource) not in resources:
            raise TokenError(f"the token is for {unquote(self.resource)!r}")
        expiry = int(self.expiry) * SECOND
        if now >= expiry + _SKEW:
            raise TokenError(f"the token has ended at {to_text(expiry)}")
        if expiry > now + _LONGEST:
            raise TokenError("the token is for more than a year; make one that ends sooner")
        return fitting[0]


def make_token(key: str, resource: str, expiry: Micros) -> str:
    """A token for a resource (not encoded), signed with a key in Base64. It ends at `expiry`, in whole seconds."""
    encoded, seconds = quote(resource, safe=""), str(expiry // SECOND)
    signature = base64.b64encode(_sign(key, f"{encoded}\n{seconds}".encode())).decode()
    return f"{SCHEME} sr={encoded}&sig={quote(signature, safe='')}&se={seconds}"


def derive_key(group_key: str, registration_id: str) -> str:
    """A device's key, from that of its group: HMAC-SHA256 over its registration id, as Azure DPS derives it."""
    return base64.b64encode(_sign(group_key, registration_id.encode())).decode()


def _sign(key: str, text: bytes) -> bytes:
    return hmac.digest(base64.b64decode(key), text, "sha256")


def _field(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return name, value
