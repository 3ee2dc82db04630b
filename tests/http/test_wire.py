"""Bytes on a raw connection: what is no request, what is too much, what is too slow, and that others do not notice."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import product

import pytest

from harness.client import CREATED, NO_ORDERS, Client, message
from harness.server import ServerProcess

IDLE_TIMEOUT_S = 1


@pytest.fixture(scope="module")
def impatient_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that soon closes idle connections."""
    database = tmp_path_factory.mktemp("impatient") / "orders.db"
    with ServerProcess("--idle-timeout", str(IDLE_TIMEOUT_S), database=database) as service:
        yield service
        assert service.process.poll() is None, "the server went down"


def read_all(connection: socket.socket) -> bytes:
    """Return what the server sends until it closes the connection."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


def exchange(service: ServerProcess, data: bytes) -> bytes:
    """Send bytes on a connection of their own; return all that comes back."""
    with service.connect() as connection:
        connection.sendall(data)
        return read_all(connection)


def check_refusal(sent: bytes, received: bytes) -> None:
    """Check that bytes were refused in JSON."""
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n"), f"{sent[:200]!r} was answered {received[:500]!r}"
    assert b"\r\nContent-Type: application/json\r\n" in head, received
    assert b"\r\nCache-Control: no-store\r\n" in head, received
    assert b"\r\nDate: " in head, received
    assert json.loads(body) == {"message": "Bad request"}


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /order/acquire?executor_id=a b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /order/acquire?executor_id=\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET /health\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nbroken header\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX: \x00\r\n\r\n",
        b"POST /order/cancel HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /order/cancel HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        b"POST /order/cancel HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /order/cancel HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnot a chunk\r\n",
        b"POST /order/cancel HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /order/cancel HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused_in_json(impatient_service: ServerProcess, data: bytes) -> None:
    """The errors that the web framework finds by itself have the shape of all others (D11)."""
    check_refusal(data, exchange(impatient_service, data))


@pytest.mark.parametrize(
    "data",
    [
        b"POST /order/cancel?order_id=x HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n" + bytes(65537),
        b"POST /order/cancel?order_id=x HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /order/cancel?order_id=x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n"
        + bytes(65537),
        b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 65536 + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 20000 + b"\r\n",
        b"GET /order/acquire?executor_id=" + b"a" * 70000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"a" * 70000,
    ],
)
def test_too_much_is_refused(impatient_service: ServerProcess, data: bytes) -> None:
    """Bodies and headers of more than 64 KiB are cut off, with an answer."""
    check_refusal(data, exchange(impatient_service, data))


def test_as_much_as_is_allowed_is_answered(impatient_service: ServerProcess) -> None:
    """Bodies and headers of just under 64 KiB are fine, with a Content-Length and in chunks."""
    for head, body in [
        (b"Content-Length: 65536", bytes(65536)),
        (b"Transfer-Encoding: chunked", b"10000\r\n" + bytes(65536) + b"\r\n0\r\n\r\n"),
        (b"X: " + b"a" * 65000, b""),
    ]:
        data = b"POST /order/cancel HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + head + b"\r\n\r\n" + body
        received = exchange(impatient_service, data)
        assert received.startswith(b"HTTP/1.1 400 ") and b"Missing parameters" in received, received


def test_a_request_may_come_in_any_pieces(impatient_service: ServerProcess) -> None:
    """Byte by byte, several at once, from HTTP/1.0 and as a proxy writes it, a request is a request."""
    request = b"GET /order/acquire?executor_id=nobody HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with impatient_service.connect() as connection:
        for n in range(len(request)):
            connection.sendall(request[n : n + 1])
        assert NO_ORDERS.encode() in read_all(connection)
    kept_alive = request.replace(b"Connection: close\r\n", b"")
    assert exchange(impatient_service, kept_alive * 9 + request).count(NO_ORDERS.encode()) == 10
    assert NO_ORDERS.encode() in exchange(impatient_service, b"GET /order/acquire?executor_id=nobody HTTP/1.0\r\n\r\n")
    for target in (b"http://x/order/acquire?executor_id=nobody", b"HTTP://x:80/order/acquire?executor_id=nobody"):
        assert NO_ORDERS.encode() in exchange(
            impatient_service, request.replace(b"/order/acquire?executor_id=nobody", target)
        )


STARTS = [
    b"",
    b"GET /he",
    b"GET /health HTTP/1.1\r\nHost: x\r\n",
    b"POST /order/cancel HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
]


def test_idle_and_dribbling_connections_are_closed(impatient_service: ServerProcess) -> None:
    """A connection that does not send a whole request in time is closed, also if it sends a byte now and then."""
    waiting = {}
    for start, dribble in product(STARTS, (b"", b"a")):
        connection = impatient_service.connect()
        connection.sendall(start)
        connection.settimeout(0.05)
        waiting[connection] = start, dribble
    begun = time.monotonic()
    while waiting:
        for connection, (_, dribble) in list(waiting.items()):
            try:
                with suppress(TimeoutError):
                    if connection.recv(1000) == b"":
                        raise ConnectionError
                connection.sendall(dribble)
            except ConnectionError:
                connection.close()
                del waiting[connection]
        assert time.monotonic() - begun < 30 * IDLE_TIMEOUT_S, f"still open: {list(waiting.values())}"


def test_a_crowd_of_bad_connections_keeps_nobody_waiting(impatient_service: ServerProcess) -> None:
    """While many connections idle, dribble and send garbage, other clients are served."""
    crowd = []
    for n in range(200):
        connection = impatient_service.connect()
        connection.sendall(
            [b"", b"GET /", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", os.urandom(500)][n % 4]
        )
        crowd.append(connection)
    with Client(impatient_service.url) as client:
        for n in range(50):
            response = client.assign(f"crowd-{n}", "crowd")
            assert message(response) == CREATED
    for connection in crowd:
        connection.close()


def test_a_client_that_goes_away_disturbs_nobody(impatient_service: ServerProcess) -> None:
    """An operation whose client has gone before its answer is carried out, and the server goes on."""
    for n in range(50):
        with impatient_service.connect() as connection:
            connection.sendall(
                b"PUT /orders/assign?order_id=gone-%d&executor_id=gone&zone_id=z HTTP/1.1\r\nHost: x\r\n\r\n" % n
            )
            if n % 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    with Client(impatient_service.url) as client:
        assert client.http.get("/health").status_code == 200
    assert "Traceback" not in impatient_service.log()


def test_random_bytes_never_get_a_500(impatient_service: ServerProcess) -> None:
    """Random bytes, alone and in the place of a query, are refused or answered, never with a 5xx (D9)."""
    for n in range(200):
        noise = os.urandom(60)
        data = noise + b"\r\n\r\n"
        if n % 2:
            query = bytes(byte for byte in noise if byte > 0x20 and byte != 0x7F)
            data = b"GET /order/acquire?executor_id=" + query + b" HTTP/1.0\r\n\r\n"
        received = exchange(impatient_service, data)
        assert not received or received.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4")), (
            f"{data!r} was answered {received!r}"
        )
