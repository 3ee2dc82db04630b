"""A client's connection: the last request on it, clients that do not read, and unusual but valid HTTP."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from harness.client import Client, message, not_active, receive_all, send_raw
from harness.server import ServerProcess, wait_until
from tests.http.test_wire import check_bad_request

LARGE_PAGE = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def impatient_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that soon closes idle connections."""
    database = tmp_path_factory.mktemp("impatient") / "orders.db"
    with ServerProcess("--idle-timeout", "1", database=database) as server:
        yield server


def assign(order_id: str, version: str = "1.1", header: str = "") -> bytes:
    """Return an assign as it is sent."""
    target = f"/orders/assign?order_id={order_id}&executor_id=executor&zone_id=zone"
    return f"PUT {target} HTTP/{version}\r\nHost: x\r\n{header}\r\n".encode()


@pytest.mark.parametrize(
    ("version", "header"),
    [
        ("1.1", "Connection: close\r\n"),
        ("1.1", "Connection: something, Close\r\n"),
        ("1.0", ""),
    ],
)
def test_a_request_behind_the_last_one_is_not_carried_out(server: ServerProcess, version: str, header: str) -> None:
    """The server closes the connection after the last response, and leaves what comes behind it (RFC 9112 §9.6)."""
    behind = f"behind-{version}-{len(header)}"
    received = send_raw(server.connect(), assign(f"before-{behind}", version, header) + assign(behind))
    assert received.count(b"HTTP/1.1 200 OK") == 1, received
    with Client(server.url) as client:
        assert message(client.cancel(behind)) == not_active(behind)


def test_a_request_behind_the_last_answer_of_a_stop_is_not_carried_out(database: Path) -> None:
    """A server that stops says so with its last answer on a connection. It does not carry out the request behind it."""
    with ServerProcess(database=database) as server, server.connect() as connection:
        slow = assign("order-1", header="Content-Length: 1\r\n")
        connection.sendall(slow)
        with Client(server.url) as client:
            client.acquire("nobody")  # The server has read the other connection, too.
        server.process.terminate()
        wait_until(lambda: not is_listening(server), "the server stops")
        connection.sendall(b"x" + assign("order-2") + assign("order-3"))
        received = receive_all(connection)
    assert received.count(b"HTTP/1.1 200 OK") == 2 and received.count(b"Connection: close") == 1, received
    with ServerProcess(database=database) as server, Client(server.url) as client:
        assert message(client.cancel("order-3")) == not_active("order-3")


def is_listening(server: ServerProcess) -> bool:
    """Return whether a server still accepts connections."""
    return any(one.status == "LISTEN" for one in psutil.Process(server.process.pid).net_connections())


def test_clients_that_do_not_read_are_closed_and_cost_little_memory(impatient_server: ServerProcess) -> None:
    """A connection holds a piece of a response at most, and is closed if its client reads nothing in time."""
    process = psutil.Process(impatient_server.process.pid)
    before = process.memory_info().rss
    with ExitStack() as crowd:
        for _ in range(100):
            connection = crowd.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.connect(impatient_server.address)
            connection.sendall(LARGE_PAGE * 5)
        wait_until(lambda: impatient_server.log().count("unread") == 100, "all connections are closed")
        grown = process.memory_info().rss - before
    assert grown < 40 * 1024 * 1024, f"100 connections took {grown} bytes; their responses are 150 MB"


def test_a_client_that_reads_slowly_gets_all_of_a_large_page(impatient_server: ServerProcess) -> None:
    """The idle timeout is for a client that reads nothing. One that goes on reading gets the whole response."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(impatient_server.address)
        connection.sendall(LARGE_PAGE.replace(b"Host", b"Connection: close\r\nHost"))
        received = receive_all(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}\r\n".encode() in head + b"\r\n", head


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.1\r\nHost:\r\n",
        b"GET /health HTTP/1.1\r\nHost: [::1]:80\r\n",
        b"GET https://x/health HTTP/1.1\r\nHost: x\r\n",
        b"\r\nGET /health HTTP/1.1\r\nHost: x\r\n",
    ],
)
def test_unusual_http_is_answered(server: ServerProcess, head: bytes) -> None:
    """An empty host, an IPv6 address, an absolute target and an empty line before a request are HTTP (RFC 9112)."""
    received = send_raw(server.connect(), head + b"Connection: close\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 200 OK\r\n"), f"{head!r} was answered {received!r}"


@pytest.mark.parametrize("host", [b"a b", b"a/b", b"a?b", b"x:y", b"a@b", b"\xc3\xa9"])
def test_a_host_that_is_none_is_refused(server: ServerProcess, host: bytes) -> None:
    """A `Host` that is not a host with a port is a bad request (RFC 9112 §3.2)."""
    data = b"GET /health HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
    check_bad_request(data, send_raw(server.connect(), data))
