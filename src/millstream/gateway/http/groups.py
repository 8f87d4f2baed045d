"""`/groups`: consumer groups whose members are HTTP clients; `millstream.log.contract.Group`, request by request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypedDict
from urllib.parse import quote

import msgspec
from msgspec import Meta
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from millstream.clock import to_text
from millstream.errors import PayloadError
from millstream.gateway.http.accept import choose
from millstream.gateway.http.answer import answer
from millstream.gateway.http.body import Bodies, decode
from millstream.gateway.http.members import Member, Members, Told
from millstream.gateway.http.operation import NOTHING, WHOEVER_IS_LET_IN, Caller, Content, Needs, Operation
from millstream.gateway.http.page import JSON, json_form
from millstream.gateway.http.readers import Readers
from millstream.gateway.http.streaming import Streaming, in_turns
from millstream.ledger.names import OUTCOMES
from millstream.log import GroupStatus, Log, Position, find_stream
from millstream.log.contract import LATEST, Start
from millstream.rights import Right, may

_OURS = "$"  # what Millstream's own groups begin with

Count = Annotated[int, Meta(ge=0)]


class Join(msgspec.Struct, forbid_unknown_fields=True):
    """Who wants to become a member."""

    streams: Annotated[list[str], Meta(min_length=1)]
    start: Start = LATEST
    lease: Annotated[float, Meta(ge=5, le=300)] = 30.0


class Ask(msgspec.Struct, forbid_unknown_fields=True):
    """A poll."""

    after: Count
    wait: Annotated[float, Meta(ge=0, le=60)] = 0.0
    limit_bytes: Annotated[int, Meta(ge=1, le=1 << 20)] = 1 << 20
    pause: bool = False
    attributes: bool = False


class Reached(msgspec.Struct, forbid_unknown_fields=True):
    """A position in a partition."""

    stream: str
    partition: Count
    low: Count
    done: list[Count] = []


class Commit(msgspec.Struct, forbid_unknown_fields=True):
    """What is completed."""

    positions: list[Reached] = []
    counts: dict[str, int] = {}


class Release(msgspec.Struct, forbid_unknown_fields=True):
    """What a member gives up."""

    partitions: list[Count]


class JoinedShown(TypedDict):
    """A membership; its place is in the header `Location`."""

    group: str
    member: str
    lease: float


class CommittedShown(TypedDict):
    """When it was on disk."""

    time: str


class PositionShown(TypedDict):
    """Where a group is in a partition, and how many events it has not completed."""

    stream: str
    partition: int
    low: int
    done: tuple[int, ...]
    lag: int


class GroupShown(TypedDict):
    """A group."""

    group: str
    members: int
    counts: Mapping[str, int]
    positions: list[PositionShown]


class GroupsShown(TypedDict):
    """Groups by name."""

    groups: list[GroupShown]


class Groups:
    """Joins, polls, commits and leaves for clients."""

    def __init__(self, log: Log, readers: Readers, bodies: Bodies, members: Members) -> None:
        self._log = log
        self._readers = readers
        self._bodies = bodies
        self._members = members

    def operations(self) -> list[Operation]:
        """See `Part`. Whose membership it is, a member's operations look at by themselves."""
        member = "/groups/{group:path}/members/{member}"
        of_member = (
            (
                "poll",
                self._poll,
                "Events, and what has happened to its partitions",
                Ask,
                Content(dict[str, Any]),
            ),
            ("commit", self._commit, "Move the group's positions", Commit, Content(CommittedShown)),
            ("release", self._release, "Give partitions up", Release, NOTHING),
        )
        return [
            Operation(
                method="GET",
                path="/groups",
                act=self._list,
                text="List the groups that one may join",
                needs=WHOEVER_IS_LET_IN,
                gives={200: Content(GroupsShown)},
            ),
            *(
                Operation(
                    method="POST",
                    path=f"{member}/{name}",
                    act=act,
                    text=says,
                    needs=WHOEVER_IS_LET_IN,
                    takes=Content(takes),
                    gives={204 if gives is NOTHING else 200: gives},
                )
                for name, act, says, takes, gives in of_member
            ),
            Operation(
                method="DELETE",
                path=member,
                act=self._leave,
                text="Leave a group",
                needs=WHOEVER_IS_LET_IN,
                gives={204: NOTHING},
            ),
            Operation(
                method="POST",
                path="/groups/{group:path}/members",
                act=self._join,
                text="Join a group; the streams must be readable too",
                needs=Needs(Right.JOIN, "group"),
                takes=Content(Join),
                gives={201: Content(JoinedShown)},
            ),
            Operation(
                method="GET",
                path="/groups/{group:path}",
                act=self._show,
                text="Show a group: positions, lag, counts",
                needs=Needs(Right.JOIN, "group"),
                gives={200: Content(GroupShown)},
            ),
        ]

    async def _list(self, request: Request, caller: Caller) -> Response:
        rights = caller.identity.rights
        theirs = [its for its in await self._log.groups() if not its.name.startswith(_OURS)]
        shown: GroupsShown = {"groups": [_status(its) for its in theirs if may(rights, Right.JOIN, its.name)]}
        return answer(shown)

    async def _show(self, request: Request, caller: Caller) -> Response:
        name = request.path_params["group"]
        for its in await self._log.groups():
            if its.name == name:
                return answer(_status(its))
        raise HTTPException(404, f"there is no group {name!r}; join it with POST /groups/{name}/members")

    async def _join(self, request: Request, caller: Caller) -> Response:
        group, user = request.path_params["group"], caller.identity
        asked = decode(await self._bodies.read(request), Join)
        if not group or group.startswith(_OURS):
            raise HTTPException(400, f"{group!r} is no name for a group of yours: say something, without a leading '$'")
        for stream in asked.streams:
            user.rights.check(Right.READ, stream)
            await find_stream(self._log, stream)
        member = await self._members.join(group, user, asked.streams, asked.start, asked.lease)
        place = quote(f"/groups/{group}/members/{member.id}")
        joined: JoinedShown = {"group": group, "member": member.id, "lease": asked.lease}
        return answer(joined, 201, {"Location": place})

    async def _poll(self, request: Request, caller: Caller) -> Response:
        member = self._member(request, caller)
        with member.heard():
            choose(request.headers.get("accept"), [JSON])
            asked = decode(await self._bodies.read(request), Ask)
            polling = member.poll(asked.after, asked.limit_bytes, asked.wait, asked.pause)
            told = await self._readers.wait(polling, request)
            told = told or await member.poll(asked.after, 1, 0.0, pause=True)
        return Streaming(in_turns(_pieces(told, asked.attributes)), JSON, {}, member.heard())

    async def _commit(self, request: Request, caller: Caller) -> Response:
        member = self._member(request, caller)
        with member.heard():
            asked = decode(await self._bodies.read(request), Commit)
            for name in asked.counts:
                _check_count(name)
            positions = {(its.stream, its.partition): _position(its) for its in asked.positions}
            committed = await member.commit(positions, asked.counts)
        shown: CommittedShown = {"time": to_text(committed.time)}
        return answer(shown)

    async def _release(self, request: Request, caller: Caller) -> Response:
        member = self._member(request, caller)
        with member.heard():
            asked = decode(await self._bodies.read(request), Release)
            await member.release(frozenset(asked.partitions))
        return Response(status_code=204)

    async def _leave(self, request: Request, caller: Caller) -> Response:
        await self._members.leave(self._member(request, caller))
        return Response(status_code=204)

    def _member(self, request: Request, caller: Caller) -> Member:
        return self._members.find(request.path_params["group"], request.path_params["member"], caller.identity)


def _check_count(name: str) -> None:
    if name in OUTCOMES or name.startswith(_OURS):
        raise PayloadError(f"the count {name!r} is Millstream's own: what is completed is counted by itself")


def _position(its: Reached) -> Position:
    if its.done != sorted(set(its.done)) or (its.done and its.done[0] <= its.low):
        raise PayloadError(f"position {its.low} with done {its.done}: these are offsets above it, ascending")
    return Position(its.low, tuple(its.done))


def _pieces(told: Told, attributes: bool) -> Iterator[bytes]:
    poll, form = told.poll, json_form(attributes)
    gained = [_reached(stream, number, its) for number, by in poll.gained.items() for stream, its in by.items()]
    expired = [{"stream": stream, "partition": number, "events": n} for (stream, number), n in poll.expired.items()]
    news = {"poll": told.number, "lost": sorted(poll.lost), "gained": gained, "expired": expired}
    yield msgspec.json.encode(news)[:-1] + b',"batches":['
    for number, batch in enumerate(poll.batches):
        if number:
            yield b","
        yield from form.pieces(batch)
    yield b"]}\n"


def _reached(stream: str, partition: int, its: Position) -> dict[str, Any]:
    return {"stream": stream, "partition": partition, "low": its.low, "done": its.done}


def _status(its: GroupStatus) -> GroupShown:
    return {
        "group": its.name,
        "members": its.members,
        "counts": its.counts,
        "positions": [
            {
                "stream": stream,
                "partition": partition,
                "low": position.low,
                "done": position.done,
                "lag": its.lag.get((stream, partition), 0),
            }
            for (stream, partition), position in its.positions.items()
        ],
    }
