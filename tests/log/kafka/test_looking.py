"""What an operator is shown of a group, without brokers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from millstream.log.kafka.accounts import View, read_groups
from millstream.log.kafka.admin import Admin, Offset, TopicPlace
from millstream.log.kafka.names import Names
from millstream.log.kafka.offsets import Counts, pack

NAMES = Names("t-")


class LateAdmin:
    """Brokers that show the second transaction of a group when they are asked for the third time."""

    def __init__(self) -> None:
        self.asked = 0

    def topics(self) -> set[str]:
        return {NAMES.state("g")}

    def groups(self) -> list[str]:
        return [NAMES.group("g")]

    def offsets(self, group: str, places: None = None, *, stable: bool = True) -> dict[TopicPlace, Offset]:
        assert not stable, "an open transaction is no reason to show nothing"
        self.asked += 1
        serial = 2 if self.asked == 3 else 1
        return {(NAMES.state("g"), 0): Offset(serial, pack(Counts({"processed": serial}))[0])}

    def members(self, groups: Iterable[str]) -> dict[str, int]:
        return {}

    def firsts(self, places: object) -> dict[TopicPlace, int]:
        return {}

    def ends(self, places: object, *, committed: bool) -> dict[TopicPlace, int]:
        return {}


def view(admin: LateAdmin) -> View:
    return View(cast(Admin, admin), {}, NAMES, lambda *place: ([], 0), lambda *place: {}, {}, {})


def test_what_this_process_has_committed_is_shown_though_brokers_show_it_later() -> None:
    (group,) = read_groups(view(LateAdmin()), {("g", 0): 2, ("another", 0): 7})
    assert group.counts == {"processed": 2}


def test_what_others_are_about_to_commit_is_not_waited_for() -> None:
    admin = LateAdmin()
    (group,) = read_groups(view(admin), {("g", 0): 1})
    assert (group.counts, admin.asked) == ({"processed": 1}, 1)
