"""What a member that never leaves does when a commit was refused, because its membership had ended."""

from __future__ import annotations

from millstream.log.contract import Group

_SECONDS = 1.0  # for a group to say something


async def hear(group: Group) -> None:
    """Take note of what the group has taken away and given since the last poll, and let go what it has taken; returns
    after a second where it says nothing. A transaction that is begun after this is of the member's present grants:
    whoever looks at the committed state in between finds all that others have committed before."""
    poll = await group.poll(1, _SECONDS)
    if poll.lost:
        await group.release(poll.lost)
