"""Who owns which partitions: never two, soon everybody's fair share, and as few moves as that takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.errors import FencedError, LogUnavailableError
from millstream.log.sqlite.coordinator import RELEASE_SECONDS, Coordinator

STREAMS = {"a": 8, "b": 3}


def make() -> Coordinator:
    return Coordinator(lambda member: None)


def owners(coordinator: Coordinator, members: list[int]) -> dict[int, int]:
    """The owner of each number."""
    found: dict[int, int] = {}
    for member in members:
        for number in coordinator.ownership(member).owned:
            assert number not in found, "a number has two owners"
            found[number] = member
    return found


def release_lost(coordinator: Coordinator, member: int, now: float) -> None:
    known = coordinator.ownership(member)
    coordinator.release(member, {number: known.owned[number] for number in known.revoked}, now)


actions = st.lists(
    st.tuples(st.sampled_from(["join", "leave", "release", "wait", "release all"]), st.integers(0, 5)), max_size=30
)


@given(actions)
def test_whatever_happens_it_settles_in_fair_shares(plan: list[tuple[str, int]]) -> None:
    coordinator = make()
    now = 0.0
    members: list[int] = []
    epochs: set[int] = set()
    for action, which in plan:
        member = members[which % len(members)] if members else None
        if action == "join":
            members.append(coordinator.join("g", STREAMS, now))
        elif action == "wait":
            now += which * 3.0
            coordinator.expire(now)
        elif member is not None and action == "leave":
            coordinator.leave(member, now)
            members.remove(member)
        elif member is not None:
            release_lost(coordinator, member, now)
        owners(coordinator, members)
        for each in members:
            epochs.update(coordinator.ownership(each).owned.values())
    coordinator.expire(now + RELEASE_SECONDS)
    assert coordinator.next_deadline is None
    if members:
        found = owners(coordinator, members)
        assert sorted(found) == list(range(8))
        shares = sorted(len(coordinator.ownership(member).owned) for member in members)
        assert shares[-1] - shares[0] <= 1


def test_no_number_moves_without_need() -> None:
    coordinator = make()
    members = [coordinator.join("g", STREAMS, 0.0)]
    for _ in range(3):
        before = owners(coordinator, members)
        members.append(coordinator.join("g", STREAMS, 0.0))
        for member in members:
            release_lost(coordinator, member, 0.0)
        after = owners(coordinator, members)
        moved = [number for number in after if before[number] != after[number]]
        assert {after[number] for number in moved} == {members[-1]}
        assert len(moved) == 8 // len(members)
    coordinator.leave(members[0], 0.0)
    final = owners(coordinator, members[1:])
    assert all(final[number] == member for number, member in after.items() if member != members[0])


def test_a_revoked_number_is_its_owners_until_it_is_released() -> None:
    coordinator = make()
    one = coordinator.join("g", STREAMS, 0.0)
    epochs = coordinator.ownership(one).owned
    two = coordinator.join("g", STREAMS, 0.0)
    revoked = coordinator.ownership(one).revoked
    assert len(revoked) == 4
    assert coordinator.ownership(two).owned == {}
    coordinator.check("g", one, epochs, revoked)
    coordinator.release(one, {revoked[0]: epochs[revoked[0]]}, 0.0)
    assert list(coordinator.ownership(two).owned) == [revoked[0]]
    with pytest.raises(FencedError, match=f"partition {revoked[0]} has gone"):
        coordinator.check("g", one, epochs, revoked)
    assert coordinator.next_deadline == RELEASE_SECONDS
    coordinator.expire(RELEASE_SECONDS - 0.1)
    coordinator.check("g", one, epochs, revoked[1:])
    coordinator.expire(RELEASE_SECONDS)
    assert set(coordinator.ownership(two).owned) == set(revoked)


def test_an_old_epoch_releases_and_commits_nothing() -> None:
    coordinator = make()
    one = coordinator.join("g", STREAMS, 0.0)
    old = coordinator.ownership(one).owned
    two = coordinator.join("g", STREAMS, 0.0)
    coordinator.expire(RELEASE_SECONDS)
    coordinator.leave(two, 20.0)
    new = coordinator.ownership(one).owned
    changed = [number for number in new if new[number] != old[number]]
    assert len(changed) == 4
    with pytest.raises(FencedError):
        coordinator.check("g", one, old, changed)
    coordinator.release(one, {number: old[number] for number in changed}, 20.0)
    assert coordinator.ownership(one).owned == new
    coordinator.check("g", one, new, new)


@pytest.mark.parametrize("end", [lambda c, m: c.leave(m, 0.0), lambda c, m: None])
def test_who_is_not_a_member_owns_nothing(end: Callable[[Coordinator, int], None]) -> None:
    coordinator = make()
    member = coordinator.join("g", STREAMS, 0.0)
    end(coordinator, member)
    stranger = member if not coordinator.count("g") else member + 1
    with pytest.raises(LogUnavailableError, match="join the group again"):
        coordinator.ownership(stranger)
    with pytest.raises(FencedError, match="membership is over"):
        coordinator.check("g", stranger, {}, [])
    assert coordinator.version(stranger) == 0
    with pytest.raises(FencedError):
        coordinator.check("another", member, {}, [])


def test_members_of_an_older_application_hand_over_everything() -> None:
    coordinator = make()
    old = coordinator.join("g", {"a": 4}, 0.0)
    new = coordinator.join("g", {"a": 4, "c": 2}, 0.0)
    assert len(coordinator.ownership(old).revoked) == 4
    release_lost(coordinator, old, 0.0)
    assert sorted(coordinator.ownership(new).owned) == [0, 1, 2, 3]
    assert coordinator.ownership(old).owned == {}
    coordinator.leave(new, 0.0)
    assert sorted(coordinator.ownership(old).owned) == [0, 1, 2, 3]


def test_a_group_without_streams_has_one_number() -> None:
    coordinator = make()
    assert list(coordinator.ownership(coordinator.join("g", {}, 0.0)).owned) == [0]


def test_everybody_concerned_is_told() -> None:
    told: list[int] = []
    coordinator = Coordinator(told.append)
    one = coordinator.join("g", STREAMS, 0.0)
    told.clear()
    two = coordinator.join("g", STREAMS, 0.0)
    assert set(told) == {one}
    told.clear()
    release_lost(coordinator, one, 0.0)
    assert set(told) == {one, two}
    told.clear()
    coordinator.leave(one, 0.0)
    assert set(told) == {one, two}
