"""Signed tokens: who has the key comes in, whatever the encoding, and nobody else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.clock import SECOND
from millstream.devices.token import Token, derive_key, make_token
from millstream.errors import TokenError

KEY = base64.b64encode(b"0123456789abcdef").decode()
OTHER = base64.b64encode(b"fedcba9876543210").decode()
NOW = 1_767_225_600 * SECOND
HOUR = 3_600 * SECOND
RESOURCE = "devices/press-1"


def test_a_token_is_made_as_azures_sdk_makes_it() -> None:
    """Made by azure-iot-device 2.14.0: `RenewableSasToken(uri, SymmetricKeySigningMechanism(key))` at this time."""
    assert make_token(KEY, "hub.example/devices/a b", 1_767_229_200 * SECOND) == (
        "SharedAccessSignature sr=hub.example%2Fdevices%2Fa%20b"
        "&sig=nC7P8EmH7zYT6x3McwcXCbzAANl9%2FH9s2%2Fn5nElbGNs%3D&se=1767229200"
    )


@given(st.text(min_size=1, max_size=40), st.integers(1, 300 * 24 * 3600))
def test_a_token_lets_in_until_it_ends(resource: str, seconds: int) -> None:
    text = make_token(KEY, resource, NOW + seconds * SECOND)
    token = Token.parse(text)
    assert token.check([OTHER, KEY], [resource], NOW) == KEY
    with pytest.raises(TokenError, match="has ended"):
        token.check([KEY], [resource], NOW + (seconds + 301) * SECOND)


def test_a_clock_may_be_wrong_by_five_minutes() -> None:
    token = Token.parse(make_token(KEY, RESOURCE, NOW - 299 * SECOND))
    assert token.check([KEY], [RESOURCE], NOW) == KEY


def test_the_resource_is_signed_as_it_is_encoded() -> None:
    """Encoders differ in case (`%2f`) and in what they leave as it is."""
    signed = "devices%2fpress%2d1\n1767229200"
    signature = base64.b64encode(hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()).decode()
    text = f"SharedAccessSignature se=1767229200&skn=&sig={quote(signature, safe='')}&sr=devices%2fpress%2d1"
    assert Token.parse(text).check([KEY], [RESOURCE], NOW) == KEY


@pytest.mark.parametrize(
    ("keys", "resource", "expiry", "told"),
    [
        ([], RESOURCE, HOUR, "signature is wrong"),
        ([OTHER], RESOURCE, HOUR, "signature is wrong"),
        ([KEY], "devices/press-2", HOUR, "is for 'devices/press-2'"),
        ([KEY], RESOURCE, -HOUR, "has ended at 2025-12-31T23:00:00Z"),
        ([KEY], RESOURCE, 400 * 24 * HOUR, "more than a year"),
    ],
)
def test_a_wrong_token_is_told(keys: list[str], resource: str, expiry: int, told: str) -> None:
    token = Token.parse(make_token(KEY, resource, NOW + expiry))
    with pytest.raises(TokenError, match=told):
        token.check(keys, [RESOURCE], NOW)


GOOD = make_token(KEY, RESOURCE, NOW + HOUR)


@given(st.one_of(st.text(), st.text(alphabet="sr=igse&%/0123456789ABab \0").map("SharedAccessSignature ".__add__)))
def test_garbage_is_a_wrong_token_and_nothing_else(text: str) -> None:
    with pytest.raises(TokenError):
        Token.parse(text).check([KEY], [RESOURCE], NOW)


@given(st.integers(0, len(GOOD) - 1), st.characters(codec="ascii"))
def test_a_token_with_any_character_changed_lets_nobody_in(place: int, character: str) -> None:
    changed = GOOD[:place] + character + GOOD[place + 1 :]
    if changed != GOOD:
        try:
            Token.parse(changed).check([KEY], [RESOURCE], NOW)
        except TokenError:
            return
        assert Token.parse(changed) == Token.parse(GOOD), "only another way to write the same"


def test_a_devices_key_follows_from_its_groups() -> None:
    """The example of Azure's documentation: learn.microsoft.com/azure/iot-dps/concepts-symmetric-key-attestation."""
    group = "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw=="
    assert derive_key(group, "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6") == "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc="
    assert derive_key(group, secrets.token_hex(4)) != derive_key(group, "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6")
