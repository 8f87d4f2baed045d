"""A client for programs elsewhere: what a server offers by HTTP, typed, for asyncio. It needs the extra `client`."""

from millstream.client.client import Client
from millstream.client.group import GroupMember
from millstream.client.page import Page, Poll
from millstream.client.tail import Tail

__all__ = ["Client", "GroupMember", "Page", "Poll", "Tail"]
