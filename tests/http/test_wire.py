"""Malformed, oversized, slow and abandoned requests, sent as raw bytes."""

import json
import os
import socket
import time
from contextlib import suppress
from itertools import product
from pathlib import Path
from random import Random

import pytest

from harness.client import CREATED, NO_ORDERS, Client, message, receive_all, send_raw
from harness.server import ServerProcess


def check_bad_request(sent: bytes, received: bytes) -> None:
    """Check that bytes were answered 400 `Bad request` in JSON."""
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
def test_malformed_requests_are_refused_in_json(server: ServerProcess, data: bytes) -> None:
    """Bytes that are not an HTTP request are answered 400 in JSON, like every other error (D11)."""
    check_bad_request(data, send_raw(server.connect(), data))


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
def test_oversized_requests_are_refused(server: ServerProcess, data: bytes) -> None:
    """Bodies and headers of more than 64 KiB are answered 400."""
    check_bad_request(data, send_raw(server.connect(), data))


def test_requests_of_the_largest_size_are_answered(server: ServerProcess) -> None:
    """Bodies of 64 KiB, with a Content-Length or in chunks, and headers of almost 64 KiB are accepted."""
    for head, body in [
        (b"Content-Length: 65536", bytes(65536)),
        (b"Transfer-Encoding: chunked", b"10000\r\n" + bytes(65536) + b"\r\n0\r\n\r\n"),
        (b"X: " + b"a" * 65000, b""),
    ]:
        data = b"POST /order/cancel HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + head + b"\r\n\r\n" + body
        received = send_raw(server.connect(), data)
        assert received.startswith(b"HTTP/1.1 400 ") and b"Missing parameters" in received, received


def test_requests_may_be_split_or_pipelined(server: ServerProcess) -> None:
    """A request may arrive byte by byte, with others in one piece, in HTTP/1.0, or with an absolute target."""
    request = b"GET /order/acquire?executor_id=nobody HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with server.connect() as connection:
        for n in range(len(request)):
            connection.sendall(request[n : n + 1])
        assert NO_ORDERS.encode() in receive_all(connection)
    kept_alive = request.replace(b"Connection: close\r\n", b"")
    assert send_raw(server.connect(), kept_alive * 9 + request).count(NO_ORDERS.encode()) == 10
    for other in (
        b"GET /order/acquire?executor_id=nobody HTTP/1.0\r\n\r\n",
        request.replace(b"/order", b"http://x/order"),
        request.replace(b"/order", b"HTTP://x:80/order"),
    ):
        received = send_raw(server.connect(), other)
        assert NO_ORDERS.encode() in received, f"{other!r} was answered {received!r}"


STARTS = [
    b"",
    b"GET /he",
    b"GET /health HTTP/1.1\r\nHost: x\r\n",
    b"POST /order/cancel HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
]


def test_slow_connections_are_closed(database: Path) -> None:
    """A connection that does not complete a request in time is closed, even if it sends a byte now and then."""
    waiting = {}
    with ServerProcess("--idle-timeout", "1", database=database) as server:
        for start, dribble in product(STARTS, (b"", b"a")):
            connection = server.connect()
            connection.sendall(start)
            connection.settimeout(0.05)
            waiting[connection] = start, dribble
        deadline = time.monotonic() + 60
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
            assert time.monotonic() < deadline, f"still open: {list(waiting.values())}"


def test_bad_connections_do_not_block_other_clients(server: ServerProcess) -> None:
    """While many connections are idle, slow or send garbage, other clients are served."""
    crowd = []
    for n in range(200):
        connection = server.connect()
        connection.sendall(
            [b"", b"GET /", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", os.urandom(500)][n % 4]
        )
        crowd.append(connection)
    with Client(server.url) as client:
        for n in range(50):
            response = client.assign(f"crowd-{n}", "crowd")
            assert message(response) == CREATED
    for connection in crowd:
        connection.close()


def test_a_client_that_disconnects_does_no_harm(server: ServerProcess) -> None:
    """Clients that close their connections before the response cause no error in the server."""
    for n in range(50):
        with server.connect() as connection:
            connection.sendall(
                b"PUT /orders/assign?order_id=gone-%d&executor_id=gone&zone_id=z HTTP/1.1\r\nHost: x\r\n\r\n" % n
            )
            if n % 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    with Client(server.url) as client:
        assert client.http.get("/health").status_code == 200
    assert "Traceback" not in server.log()


def test_random_bytes_never_get_a_500(server: ServerProcess) -> None:
    """Random bytes, as a request or as a query, are never answered with a 5xx (D9)."""
    random = Random(1)
    for n in range(200):
        noise = random.randbytes(60)
        data = noise + b"\r\n\r\n"
        if n % 2:
            query = bytes(byte for byte in noise if byte > 0x20 and byte != 0x7F)
            data = b"GET /order/acquire?executor_id=" + query + b" HTTP/1.0\r\n\r\n"
        received = send_raw(server.connect(), data)
        assert not received or received.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4")), (
            f"{data!r} was answered {received!r}"
        )
