"""Who may come in, and what it costs to find out."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
from collections import Counter
from typing import Any

import pytest
from tests.support.gateway import Plant

from millstream.clock import VirtualClock
from millstream.errors import SettingsError
from millstream.gateway import Credentials, Identity, hash_password, verify_password
from millstream.gateway.listeners.auth import BusyError, NotAuthenticatedError, TooManyFailuresError, UserAuthenticator
from millstream.gateway.listeners.holding import HoldingAuthenticator
from millstream.mqtt import Reason, Version
from millstream.mqtt import packet as p
from millstream.rights import EVERYTHING

CHEAP = "scrypt$2$1$1$c2FsdA==$Mg+j147YoCdA+qrUwvASXtMPpt7O8kuKFUTqdS+qQGA="  # of "secret", for tests of many checks


def credentials(user_name: str | None, password: str = "secret", address: str = "") -> Credentials:
    return Credentials(user_name, password.encode(), address=address)


def test_a_hash_fits_its_password_only() -> None:
    hashed = hash_password("sécret")
    assert hashed.startswith("scrypt$16384$8$1$")
    assert hash_password("sécret") != hashed, "salted"
    assert verify_password("sécret".encode(), hashed)
    assert not verify_password(b"secret", hashed)


def test_a_hash_of_other_parameters_fits_too() -> None:
    assert verify_password(b"secret", CHEAP)


WRONG_HASHES = [
    "secret",
    "",
    "md5$1$1$1$c2FsdA==$eA==",
    "scrypt$3$1$1$c2FsdA==$eA==",
    "scrypt$0$1$1$c2FsdA==$eA==",
    "scrypt$2$1$1$?$eA==",
    "scrypt$2$1$1$c2FsdA==$",
    "scrypt$1073741824$8$1$c2FsdA==$eA==",
    "scrypt$2$1$x$c2FsdA==$eA==",
]


@pytest.mark.parametrize("text", WRONG_HASHES)
def test_a_user_whose_hash_is_none_is_named_at_start(text: str) -> None:
    with pytest.raises(SettingsError, match=r"'ann'.*millstream password"):
        UserAuthenticator({"ann": text}, False, VirtualClock())


def test_nobody_could_come_in() -> None:
    with pytest.raises(SettingsError, match=r"millstream password.*--allow-anonymous"):
        UserAuthenticator({}, False, VirtualClock())


async def test_anonymous_users_need_nothing_where_there_are_no_users() -> None:
    everybody = UserAuthenticator({}, True, VirtualClock())
    assert everybody.recall(credentials(None)) == Identity(None, EVERYTHING)
    assert everybody.recall(credentials("ann")) == Identity(None, EVERYTHING)
    everybody.close()


async def test_where_there_are_users_a_name_must_be_right_and_none_may_be_allowed() -> None:
    both = UserAuthenticator({"ann": CHEAP}, True, VirtualClock())
    assert both.recall(credentials(None)) == Identity(None, EVERYTHING)
    assert both.recall(credentials("ann")) is None
    assert await both.authenticate(credentials("ann")) == Identity("ann", EVERYTHING)
    with pytest.raises(NotAuthenticatedError, match="wrong"):
        await both.authenticate(credentials("ann", "wrong"))
    both.close()


async def test_a_password_that_was_right_is_remembered_for_a_while() -> None:
    clock = VirtualClock()
    users = UserAuthenticator({"ann": CHEAP}, False, clock)
    await users.authenticate(credentials("ann"))
    assert users.recall(credentials("ann")) == Identity("ann", EVERYTHING)
    assert users.recall(credentials("ann", "other")) is None
    await clock.advance(601)
    assert users.recall(credentials("ann")) is None
    users.close()


async def test_unknown_users_and_missing_names_are_refused() -> None:
    users = UserAuthenticator({"ann": CHEAP}, False, VirtualClock())
    for wrong in (credentials(None), credentials("bob"), credentials("")):
        with pytest.raises(NotAuthenticatedError):
            await users.authenticate(wrong)
    users.close()


async def test_a_thousand_wrong_passwords_wait_in_a_bounded_queue() -> None:
    users = UserAuthenticator({"ann": CHEAP}, False, VirtualClock())
    checks = [users.authenticate(credentials("ann", f"wrong {n}", f"192.0.{n // 250}.{n % 250}")) for n in range(1_100)]
    outcomes = await asyncio.gather(*checks, return_exceptions=True)
    kinds = [type(outcome) for outcome in outcomes]
    assert set(kinds) == {NotAuthenticatedError, BusyError}
    assert kinds.count(BusyError) == 100
    assert await users.authenticate(credentials("ann")) == Identity("ann", EVERYTHING)
    users.close()


async def test_who_shows_too_many_wrong_passwords_is_refused_without_a_check() -> None:
    clock = VirtualClock()
    users = UserAuthenticator({"ann": CHEAP, "bob": CHEAP}, False, clock)
    wrong = [credentials("ann", f"wrong {n}", "192.0.2.1") for n in range(1_000)]
    outcomes = await asyncio.gather(*map(users.authenticate, wrong), return_exceptions=True)
    assert Counter(map(type, outcomes)) == {NotAuthenticatedError: 10, TooManyFailuresError: 990}
    with pytest.raises(TooManyFailuresError):
        await users.authenticate(credentials("ann", address="192.0.2.1"))
    await users.authenticate(credentials("bob", address="192.0.2.1"))
    await clock.advance(10)
    await users.authenticate(credentials("ann", address="192.0.2.1"))
    await users.authenticate(credentials("bob", address="192.0.2.2"))
    users.close()


async def test_who_tries_many_names_is_refused_for_all_of_them() -> None:
    clock = VirtualClock()
    users = UserAuthenticator({"ann": CHEAP}, False, clock)
    site = "2001:db8:0:1::"  # one site has all addresses of such a network
    for n in range(100):
        with pytest.raises(NotAuthenticatedError):
            await users.authenticate(credentials(f"guess-{n}", address=f"{site}{n:x}"))
    with pytest.raises(TooManyFailuresError):
        await users.authenticate(credentials("ann", address=f"{site}ffff"))
    await users.authenticate(credentials("ann", address="2001:db8:0:2::1"))
    await clock.advance(1)
    await users.authenticate(credentials("ann", address=f"{site}ffff"))
    users.close()


async def test_clients_that_show_the_same_share_one_check(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = 0
    scrypt = hashlib.scrypt

    def counted(*given: Any, **named: Any) -> bytes:
        nonlocal checks
        checks += 1
        return scrypt(*given, **named)

    monkeypatch.setattr("hashlib.scrypt", counted)
    users = UserAuthenticator({"ann": CHEAP}, False, VirtualClock())
    await asyncio.gather(*(users.authenticate(credentials("ann")) for _ in range(50)))
    assert checks == 1
    users.close()


@pytest.mark.parametrize("version", list(Version))
async def test_mqtt_clients_show_a_password(plant: Plant, version: Version) -> None:
    await plant.start(allow_anonymous=False, users={"ann": CHEAP})
    for user_name, password in ((None, None), ("ann", b"wrong"), ("bob", b"secret")):
        client = await plant.open(version)
        client.send(p.Connect(version=version, client_id="x", user_name=user_name, password=password))
        client.send(p.Publish(topic="a", qos=1, packet_id=1))
        (answer,) = await client.rest()
        assert isinstance(answer, p.Connack)
        assert answer.reason is Reason.BAD_USER_NAME_OR_PASSWORD
    client = await plant.connect("press-1", version, user_name="ann", password=b"secret")
    await client.publish("ann/a", b"1")
    again = await plant.connect("press-2", version, user_name="ann", password=b"secret")
    await again.publish("ann/a", b"2")
    assert await plant.payloads("events") == [b"1", b"2"]


async def test_wrong_passwords_do_not_hold_up_those_who_are_in(plant: Plant) -> None:
    await plant.start(allow_anonymous=False, users={"ann": hash_password("secret")})
    good = await plant.connect("good", user_name="ann", password=b"secret")
    for number in range(100):
        client = await plant.open()
        client.send(p.Connect(version=Version.V5, client_id=str(number), user_name="ann", password=b"%d" % number))
        await client.drain()
    await good.publish("ann/a")
    await good.publish("ann/a")
    refused = plant.statistics["ended"].get("bad_user_name_or_password", 0)
    assert refused < 100, "most of them are still being checked"


async def test_a_client_that_leaves_during_its_check_is_forgotten(plant: Plant) -> None:
    await plant.start(allow_anonymous=False, users={"ann": hash_password("secret")})
    client = await plant.open()
    client.send(p.Connect(version=Version.V5, client_id="x", user_name="ann", password=b"secret"))
    await client.drain()
    await client.close()
    again = await plant.connect("y", user_name="ann", password=b"secret")
    assert await again.is_silent()
    assert plant.statistics["connections"] == 1


async def test_anonymous_access_is_said_aloud(plant: Plant, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await plant.start()
    assert any("anybody may connect" in record.message for record in caplog.records)


class Refusing:
    """An authenticator that knows one password."""

    def recall(self, credentials: Credentials) -> Identity | None:
        return None

    async def authenticate(self, credentials: Credentials) -> Identity:
        if credentials.password != b"secret":
            raise NotAuthenticatedError("wrong")
        return Identity("ann", EVERYTHING)

    def close(self) -> None:
        """Nothing runs."""


async def test_many_refusals_are_told_one_after_the_other() -> None:
    clock = VirtualClock()
    holding = HoldingAuthenticator(Refusing(), clock)
    wrong = [asyncio.ensure_future(holding.authenticate(credentials("ann", "no", "192.0.2.1"))) for _ in range(2_000)]
    await asyncio.sleep(0)
    assert sum(each.done() for each in wrong) == 100
    assert (await holding.authenticate(credentials("ann", address="192.0.2.1"))).name == "ann"
    with pytest.raises(NotAuthenticatedError):
        await holding.authenticate(credentials("ann", "no", "192.0.2.2"))
    told = []
    for _ in range(5):
        await clock.advance(1)
        await asyncio.sleep(0)
        told.append(sum(each.done() for each in wrong))
    assert told[0] <= 125
    assert told[-1] == 2_000
    assert max(later - earlier for earlier, later in itertools.pairwise(told)) == 500
    for each in wrong:
        assert isinstance(each.exception(), NotAuthenticatedError)
    holding.close()


async def test_who_waits_for_a_refusal_is_bounded_and_answered_at_the_end() -> None:
    holding = HoldingAuthenticator(Refusing(), VirtualClock())
    wrong = [asyncio.ensure_future(holding.authenticate(credentials("ann", "no", "192.0.2.1"))) for _ in range(10_200)]
    await asyncio.sleep(0)
    assert sum(each.done() for each in wrong) == 200  # the allowance, and who is beyond the bound
    wrong[5_000].cancel()
    holding.close()
    outcomes = await asyncio.gather(*wrong, return_exceptions=True)
    assert Counter(map(type, outcomes)) == {NotAuthenticatedError: 10_199, asyncio.CancelledError: 1}
    with pytest.raises(NotAuthenticatedError):
        await holding.authenticate(credentials("ann", "no", "192.0.2.1"))
