"""Closing a socket that listens: nobody is connected and then cut off."""

import asyncio
import logging
import os
import socket

import pytest

from orders import server
from orders.app import App
from orders.listeners import keep_newcomers_out, listen
from orders.responses import NOT_FOUND
from orders.server import Server

DETACH_FILTER = 27
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def connects(address: tuple[str, int]) -> bool:
    """Return whether an address lets a client in within 0.3 s."""
    try:
        with socket.create_connection(address, timeout=0.3):
            return True
    except TimeoutError:
        return False


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_newcomers_are_kept_out(host: str) -> None:
    """Whoever waits to be accepted is, and is heard; whoever comes later does not connect."""
    [listener] = listen(host, 0)
    address = listener.getsockname()[:2]
    with listener, socket.create_connection(address) as early:
        keep_newcomers_out(listener)
        assert not connects(address)
        early.sendall(b"hello")
        accepted, _ = listener.accept()
        with accepted:
            accepted.setblocking(True)
            assert accepted.recv(10) == b"hello"
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_system_without_filters_is_no_obstacle(caplog: pytest.LogCaptureFixture) -> None:
    """Where the kernel has no packet filters, the server stops all the same; the log says what that may cost."""

    class Listener(socket.socket):
        def setsockopt(self, *arguments: object) -> None:
            raise OSError(92, os.strerror(92))

    with Listener() as listener, caplog.at_level(logging.DEBUG, "orders"):
        keep_newcomers_out(listener)
    assert caplog.messages == ["who connects during the stop may be cut off: Protocol not available"]


def test_nobody_connects_between_the_last_accept_and_the_close() -> None:
    """The moment in which a client could be connected, and then cut off with its request, is none (D13)."""
    at_the_close: list[bool] = []

    class Listener(socket.socket):
        def close(self) -> None:
            if self.fileno() >= 0:
                at_the_close.append(connects(self.getsockname()))
            super().close()

    async def scenario() -> None:
        [listener] = listen("127.0.0.1", 0)
        listener = Listener(fileno=listener.detach())
        stopping = Server(App(lambda request: NOT_FOUND), [listener], idle_timeout_s=30)
        assert connects(listener.getsockname())
        await stopping.stop()

    asyncio.run(scenario())
    assert at_the_close == [False]


def test_whoever_has_begun_to_connect_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client whose handshake is under way at the stop, on a slow network, gets in, and gets its answer."""
    monkeypatch.setattr(server, "HANDSHAKE_S", 3.0)

    async def scenario() -> bytes:
        [listener] = listen("127.0.0.1", 0)
        stopping = Server(App(lambda request: NOT_FOUND), [listener], idle_timeout_s=30)
        loop = asyncio.get_running_loop()
        with socket.socket() as client:
            client.setblocking(False)
            # Deaf to the server's first answer; the second comes a second later.
            keep_newcomers_out(client)
            connecting = asyncio.create_task(loop.sock_connect(client, listener.getsockname()))
            await asyncio.sleep(0.1)
            assert not connecting.done()
            stop = asyncio.create_task(stopping.stop())
            await asyncio.sleep(0.1)
            client.setsockopt(socket.SOL_SOCKET, DETACH_FILTER, 0)
            await connecting
            await loop.sock_sendall(client, REQUEST)
            answer = await loop.sock_recv(client, 1000)
            await stop
            return answer

    answer = asyncio.run(scenario())
    assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n"), answer
