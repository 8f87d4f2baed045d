"""The bus over a Unix-domain socket: calls, notices, errors, ends of connections, bounds."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.mqtt import PATIENCE

from millstream.bus import Peer
from millstream.errors import FencedError, LogUnavailableError, MillstreamError, UnknownStreamError
from millstream.runtime import peer as peer_module
from millstream.runtime.bus import SocketBus, connect
from millstream.runtime.peer import SocketPeer


@pytest.fixture
async def bus() -> AsyncIterator[SocketBus]:
    bus = SocketBus()
    yield bus
    await bus.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "server.sock"


async def echo(peer: Peer, body: bytes) -> bytes:
    return body[::-1]


async def forever() -> bytes:
    never: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    return await never


async def test_a_request_gets_its_answer(bus: SocketBus, path: Path) -> None:
    bus.serve("echo", echo)
    await bus.listen(path)
    peer = await connect(path)
    answers = await asyncio.gather(*(peer.request("echo", b"%d!" % number) for number in range(200)))
    assert answers == [(b"%d!" % number)[::-1] for number in range(200)]
    await peer.close()


async def test_large_bodies_pass_both_ways(bus: SocketBus, path: Path) -> None:
    bus.serve("echo", echo)
    await bus.listen(path)
    peer = await connect(path)
    body = bytes(range(256)) * 80_000  # 20 MB: beyond the write buffer's bound
    assert await peer.request("echo", body) == body[::-1]
    await peer.close()


async def test_both_ends_call_each_other(bus: SocketBus, path: Path) -> None:
    async def call_back(peer: Peer, body: bytes) -> bytes:
        return await peer.request("name", b"") + body

    async def name(peer: Peer, body: bytes) -> bytes:
        return b"worker"

    bus.serve("who", call_back)
    await bus.listen(path)
    peer = await connect(path)
    peer.serve("name", name)
    assert await peer.request("who", b"!") == b"worker!"
    await peer.close()


class FencedElsewhereError(FencedError):
    """A backend's own kind, which the other end does not know."""


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (UnknownStreamError("no stream 'x'"), UnknownStreamError),
        (FencedElsewhereError("too late"), FencedError),
        (ValueError("a bug"), MillstreamError),
    ],
)
async def test_errors_are_raised_again_at_the_caller(
    bus: SocketBus, path: Path, raised: Exception, expected: type[MillstreamError]
) -> None:
    async def fail(peer: Peer, body: bytes) -> bytes:
        raise raised

    bus.serve("fail", fail)
    await bus.listen(path)
    peer = await connect(path)
    with pytest.raises(expected, match=str(raised)) as caught:
        await peer.request("fail", b"")
    assert type(caught.value) is expected
    await peer.close()


async def test_an_unknown_subject_is_an_error(bus: SocketBus, path: Path) -> None:
    await bus.listen(path)
    peer = await connect(path)
    with pytest.raises(MillstreamError, match="does not serve 'nothing'"):
        await peer.request("nothing", b"")
    await peer.close()


async def test_notices_are_served_in_order(bus: SocketBus, path: Path) -> None:
    seen: list[int] = []
    complete = asyncio.Event()

    async def take(peer: Peer, body: bytes) -> bytes:
        seen.append(int(body))
        if len(seen) == 1000:
            complete.set()
        return b""

    bus.serve("event", take)
    await bus.listen(path)
    peer = await connect(path)
    assert all(peer.notify("event", str(number).encode()) for number in range(1000))
    async with asyncio.timeout(PATIENCE):
        await complete.wait()
    assert seen == list(range(1000))
    await peer.close()


async def test_the_end_of_the_server_ends_calls_and_is_told(bus: SocketBus, path: Path) -> None:
    entered = asyncio.Event()

    async def never(peer: Peer, body: bytes) -> bytes:
        entered.set()
        return await forever()

    bus.serve("never", never)
    await bus.listen(path)
    peer = await connect(path)
    told: list[str] = []
    peer.on_close(lambda: told.append("closed"))
    call = asyncio.create_task(peer.request("never", b""))
    await entered.wait()
    await bus.close()
    with pytest.raises(LogUnavailableError):
        await call
    assert told == ["closed"]
    peer.on_close(lambda: told.append("closed already"))
    assert told == ["closed", "closed already"]
    with pytest.raises(LogUnavailableError):
        await peer.request("never", b"")
    assert peer.notify("never", b"") is False


async def test_what_is_served_for_a_caller_ends_with_it(bus: SocketBus, path: Path) -> None:
    ended = asyncio.Event()
    entered = asyncio.Event()

    async def wait(peer: Peer, body: bytes) -> bytes:
        entered.set()
        try:
            return await forever()
        finally:
            ended.set()

    bus.serve("wait", wait)
    await bus.listen(path)
    for end in ("the caller cancels", "the caller goes"):
        peer = await connect(path)
        call = asyncio.create_task(peer.request("wait", b""))
        await entered.wait()
        if end == "the caller cancels":
            call.cancel()
        else:
            await peer.close()
        async with asyncio.timeout(PATIENCE):
            await ended.wait()
        await asyncio.gather(call, return_exceptions=True)
        entered.clear()
        ended.clear()
        await peer.close()
    assert all(peer.statistics().serving == 0 for peer in bus.peers)


async def test_a_notice_to_a_peer_that_does_not_read_is_dropped_and_counted(
    bus: SocketBus, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_module, "FLUSH_SECONDS", 0.05)
    await bus.listen(path)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.setblocking(False)
        await asyncio.get_running_loop().sock_connect(deaf, str(path))
        while not bus.peers:  # noqa: ASYNC110 (the bus has no event for it)
            await asyncio.sleep(0)
        (peer,) = bus.peers
        body = bytes(1 << 20)
        taken = 0
        while peer.notify("event", body):
            taken += 1
        assert 7 <= taken <= 9  # the bound, and what the kernel took
        assert peer.statistics().dropped_out == 1
        waiting = asyncio.create_task(peer.request("event", b""))
        await asyncio.sleep(0)
        assert peer.statistics().unanswered == 0  # a request waits until there is room
        await bus.close()
        with pytest.raises(LogUnavailableError):
            await waiting


async def test_notices_are_dropped_where_they_are_served_too_slowly(
    bus: SocketBus, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_module, "NOTICE_BYTES", 10_000)
    gate = asyncio.Event()
    served = 0

    async def slow(peer: Peer, body: bytes) -> bytes:
        nonlocal served
        await gate.wait()
        served += 1
        return b""

    bus.serve("event", slow)
    bus.serve("echo", echo)
    await bus.listen(path)
    peer = await connect(path)
    for _ in range(20):
        peer.notify("event", bytes(1000))
    await peer.request("echo", b"")  # the notices before it have arrived
    (server_side,) = bus.peers
    assert server_side.statistics().dropped_in == 14
    gate.set()
    await peer.request("echo", b"")
    assert served == 6
    peer.notify("event", bytes(1000))  # there is room again
    await peer.request("echo", b"")
    assert served == 7
    await peer.close()


async def test_requests_wait_while_too_much_is_unanswered(
    bus: SocketBus, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_module, "UNANSWERED_BYTES", 10_000)
    gate = asyncio.Event()
    entered = 0

    async def slow(peer: Peer, body: bytes) -> bytes:
        nonlocal entered
        entered += 1
        await gate.wait()
        return b""

    bus.serve("slow", slow)
    bus.serve("echo", echo)
    await bus.listen(path)
    peer = await connect(path)
    calls = [asyncio.create_task(peer.request("slow", bytes(4000))) for _ in range(6)]
    await peer.request("echo", b"")
    assert entered == 2
    gate.set()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*calls)
    assert entered == 6
    await peer.close()


async def test_a_small_request_does_not_overtake_a_large_one_that_waits(
    bus: SocketBus, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_module, "UNANSWERED_BYTES", 10_000)
    gate = asyncio.Event()
    sizes: list[int] = []

    async def slow(peer: Peer, body: bytes) -> bytes:
        sizes.append(len(body))
        await gate.wait()
        return b""

    bus.serve("slow", slow)
    await bus.listen(path)
    peer = await connect(path)
    calls = [asyncio.create_task(peer.request("slow", bytes(size))) for size in (6000, 6000, 10, 20)]
    while not sizes:  # noqa: ASYNC110 (the bus has no event for it)
        await asyncio.sleep(0)
    gate.set()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*calls)
    assert sizes == [6000, 6000, 10, 20]
    await peer.close()


async def test_bytes_that_are_no_frames_end_that_connection_only(bus: SocketBus, path: Path) -> None:
    bus.serve("echo", echo)
    await bus.listen(path)
    peer = await connect(path)
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(PATIENCE):
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
    writer.close()
    assert await peer.request("echo", b"ab") == b"ba"
    await peer.close()


async def test_nobody_listening_names_the_mend(path: Path) -> None:
    with pytest.raises(LogUnavailableError, match="millstream run --data"):
        await connect(path)
    with socket.socket(socket.AF_UNIX) as dead:  # the socket of a server that was killed
        dead.bind(str(path))
    with pytest.raises(LogUnavailableError, match="millstream run --data"):
        await connect(path)


async def test_a_dead_servers_socket_is_replaced_and_only_the_user_may_open_it(bus: SocketBus, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    bus.serve("echo", echo)
    await bus.listen(path)
    assert stat.S_IMODE((await asyncio.to_thread(path.stat)).st_mode) == 0o600
    peer = await connect(path)
    assert await peer.request("echo", b"ab") == b"ba"
    await peer.close()
    await bus.close()
    with pytest.raises(LogUnavailableError):
        await connect(path)


async def test_a_folder_with_a_long_path_works(bus: SocketBus, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30) / ("longer" * 30)
    folder.mkdir(parents=True)
    bus.serve("echo", echo)
    await bus.listen(folder / "server.sock")
    peer: SocketPeer = await connect(folder / "server.sock")
    assert await peer.request("echo", b"ab") == b"ba"
    await peer.close()


async def test_a_subject_has_one_handler(bus: SocketBus) -> None:
    bus.serve("echo", echo)
    with pytest.raises(ValueError, match="handler already"):
        bus.serve("echo", echo)
