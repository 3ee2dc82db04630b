"""The contract holds behind nginx: requests arrive unchanged, responses come back unchanged, and errors are JSON."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.client import ACQUIRED, ALREADY_EXISTS, CANCELED, CREATED, NO_ORDERS, Client, message, send_raw
from harness.nginx import Nginx
from harness.processes import children
from harness.server import ServerProcess
from tests.contract_suite.runner import run_suite
from tests.deploy.recorder import Recorder

LONGEST_ID = "%F0%9F%8D%95" * 255
REST = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
CANCEL = b"POST /order/cancel?order_id=x" + REST
BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request",
    [b"Cache-Control: no-store", b"Content-Length: 26", b"Content-Type: application/json"],
    b'{"message": "Bad request"}',
)


@pytest.fixture(scope="module")
def recorded() -> Iterator[tuple[Recorder, Nginx]]:
    """A server that records requests, and nginx in front of it."""
    with Recorder("answer") as recorder, Nginx([recorder.address]) as nginx:
        yield recorder, nginx


def parse(response: bytes) -> tuple[bytes, list[bytes], bytes]:
    """Return the status line, the headers and the body of a response, without the headers that nginx sets itself."""
    head, _, body = response.partition(b"\r\n\r\n")
    status_line, *headers = head.split(b"\r\n")
    set_by_nginx = (b"date:", b"server:", b"connection:")
    return status_line, sorted(header for header in headers if not header.lower().startswith(set_by_nginx)), body


def test_orders_are_assigned_acquired_and_cancelled(nginx: Nginx) -> None:
    """An order goes through its lifecycle, whichever server nginx sends each call to (D1, D3, D4)."""
    with Client(nginx.url) as client:
        for n in range(20):
            order, executor = f"history-order-{n}", f"history-executor-{n}"
            assert message(client.assign(order, executor)) == CREATED
            assert message(client.assign(order, executor)) == ALREADY_EXISTS
            acquired = client.acquire(executor)
            assert message(acquired) == ACQUIRED
            assert {client.acquire(executor).content for _ in range(4)} == {acquired.content}
            assert message(client.cancel(order)) == CANCELED
            assert message(client.acquire(executor)) == NO_ORDERS


@pytest.mark.timeout(420)
def test_the_service_behind_nginx_conforms(nginx: Nginx, tmp_path: Path) -> None:
    """The contract suite passes behind nginx; only ERROR-1, which needs a failing server, is not checked."""
    result = run_suite(tmp_path / "report", "--base-url", nginx.url, "-W", "error")
    assert result.exit_code == 0, result.output
    others = {clause: verdict for clause, verdict in result.verdicts().items() if verdict != "pass"}
    assert others == {"ERROR-1": "not checked"}, result.output


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"//",
        b"/order//acquire?executor_id=a",
        b"/order/../order/acquire?executor_id=a",
        b"/order/acquire/",
        b"/orde%72/acquire?executor_id=a",
        b"/orders/assign/../assign",
        b"/%2F%3F%23",
        b"/\xd0\xb7\xd0\xb0\xd0\xba\xd0\xb0\xd0\xb7",
        b"/bad-request",
        b"/bad-request?executor_id=a",
        b"/order/acquire",
        b"/order/acquire?",
        b"/order/acquire??executor_id=a&&=&",
        b"/order/acquire?executor_id=%41+%20%2B//../%2F;?",
        b"/order/acquire?executor_id=%00%ff%zz%",
        b"/order/acquire?executor_id=\xff\xfe",
        b"/order/acquire?executor_id='\"\\{}|^`<>[]",
        b"/order/acquire?executor_id=a#fragment",
        b"/order/acquire?executor_id=a&executor_id=b",
        b"/order/acquire?x=" + b"a" * 60000,
        f"/orders/assign?order_id={LONGEST_ID}&executor_id={LONGEST_ID}&zone_id={LONGEST_ID}".encode(),
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"PUT"])
def test_nginx_passes_path_and_query_on_unchanged(
    recorded: tuple[Recorder, Nginx], method: bytes, target: bytes
) -> None:
    """nginx does not decode, normalise or shorten a request target, however odd or long it is (D7)."""
    recorder, nginx = recorded
    response = send_raw(nginx.connect(), method + b" " + target + REST + b"\r\n")
    assert response.endswith(b"\r\n\r\n{}"), f"{method!r} {target[:200]!r} was answered {response!r}"
    assert recorder.requests[-1].startswith(method + b" " + target + b" HTTP/1.1\r\n"), recorder.requests[-1][:300]


@pytest.mark.parametrize(
    "request_data",
    [
        b"GET /order/acquire?executor_id=nobody" + REST + b"\r\n",
        b"GET /order/acquire?executor_id=nobody HTTP/1.0\r\n\r\n",
        b"GET http://x/order/acquire?executor_id=nobody" + REST + b"\r\n",
        b"GET /order/acquire?executor_id=" + b"a" * 9200 + REST + b"\r\n",
        b"GET /order/acquire?executor_id=%ff" + REST + b"\r\n",
        b"GET /order/acquire?executor_id=%00" + REST + b"\r\n",
        b"GET /order/acquire" + REST + b"\r\n",
        b"GET /order/acquire/" + REST + b"\r\n",
        b"GET //order/acquire" + REST + b"\r\n",
        b"GET /bad-request" + REST + b"\r\n",
        b"GET /health" + REST + b"\r\n",
        b"GET /docs" + REST + b"\r\n",
        b"GET /" + REST + b"\r\n",
        b"HEAD /health" + REST + b"\r\n",
        *(
            method + b" " + path + REST + b"\r\n"
            for method in (
                b"HEAD",
                b"TRACE",
                b"CONNECT",
                b"OPTIONS",
                b"DELETE",
                b"PATCH",
                b"LOCK",
                b"M-SEARCH",
                b"FOO_",
            )
            for path in (b"/order/acquire?executor_id=a", b"/orders/assign", b"/elsewhere", b"/bad-request")
        ),
        b"TRACE /order/cancel" + REST + b"Content-Length: 3\r\n\r\nabc",
        CANCEL + b"Content-Length: 5\r\n\r\nhello",
        CANCEL + b"Content-Length: 65536\r\n\r\n" + bytes(65536),
        CANCEL + b"Transfer-Encoding: chunked\r\n\r\n10000\r\n" + bytes(65536) + b"\r\n0\r\n\r\n",
        CANCEL + b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 10\r\n\r\norder_id=y",
        CANCEL + b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 3\r\n\r\nx--",
        CANCEL + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        CANCEL + b'If-Match: "x"\r\n\r\n',
        CANCEL + b"If-None-Match: *\r\n\r\n",
        CANCEL + b"If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n\r\n",
        CANCEL + b"If-Unmodified-Since: Sat, 01 Jan 2000 00:00:00 GMT\r\n\r\n",
        CANCEL + b"Range: bytes=0-1\r\n\r\n",
        CANCEL + b"Accept-Encoding: gzip\r\nAccept: text/html\r\n\r\n",
        CANCEL + b"Upgrade: websocket\r\n\r\n",
        CANCEL + b"X: " + b"a" * 60000 + b"\r\n\r\n",
    ],
)
def test_responses_are_the_same_with_and_without_nginx(
    nginx: Nginx, servers: list[ServerProcess], request_data: bytes
) -> None:
    """nginx changes no status, header or body, for odd methods too, and whatever the request has (D4, D10, D11)."""
    direct, through_nginx = send_raw(servers[0].connect(), request_data), send_raw(nginx.connect(), request_data)
    assert parse(through_nginx) == parse(direct), f"{request_data[:200]!r} was answered differently"


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /order/acquire?executor_id=a b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /order/acquire?executor_id=\x00" + REST + b"\r\n",
        b"GET /order/acquire?executor_id=\x7f" + REST + b"\r\n",
        b"GET /health HTTP/2.0\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        b"GET /health" + REST + b"X: \x00\r\n\r\n",
        CANCEL + b"Content-Length: -1\r\n\r\n",
        CANCEL + b"Content-Length: many\r\n\r\n",
        CANCEL + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        CANCEL + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        CANCEL + b"Transfer-Encoding: gzip\r\n\r\n",
        CANCEL + b"Transfer-Encoding: chunked\r\n\r\nnot a chunk\r\n",
        CANCEL + b"Content-Length: 65537\r\n\r\n" + bytes(65537),
        CANCEL + b"Content-Length: 6000000\r\n\r\n" + bytes(6000000),
        CANCEL + b"Content-Length: 99999999999999999999\r\n\r\n",
        CANCEL + b"Transfer-Encoding: chunked\r\n\r\n10001\r\n" + bytes(65537),
        CANCEL + b"X: " + b"a" * 65536 + b"\r\n\r\n",
        CANCEL + b"X: a\r\n" * 60000 + b"\r\n",
        b"PUT /orders/assign?order_id=" + b"a" * 70000 + REST + b"\r\n",
        b"a" * 70000,
        # nginx rejects these paths and this method. Without nginx, the responses are 404 and 405.
        b"GET /%" + REST + b"\r\n",
        b"GET /%00" + REST + b"\r\n",
        b"GET /../order/acquire" + REST + b"\r\n",
        b"get /order/acquire?executor_id=a" + REST + b"\r\n",
    ],
)
def test_nginx_refuses_malformed_and_oversized_requests_in_json(nginx: Nginx, data: bytes) -> None:
    """nginx answers 400 `Bad request` to malformed requests and to more than 64 KiB, as the server does (D11)."""
    response = send_raw(nginx.connect(), data)
    assert parse(response) == BAD_REQUEST, f"{data[:200]!r} was answered {response[:500]!r}"


def test_nginx_drops_request_bodies(recorded: tuple[Recorder, Nginx]) -> None:
    """nginx does not send request bodies to the servers, which ignore them (D10)."""
    recorder, nginx = recorded
    for body in (b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"):
        assert send_raw(nginx.connect(), CANCEL + body).endswith(b"{}")
        sent = recorder.requests[-1].lower()
        assert sent.startswith(b"post /order/cancel?order_id=x http/1.1\r\n"), sent
        assert b"content-length" not in sent and b"transfer-encoding" not in sent, sent


def test_nginx_keeps_its_connections_to_the_servers(recorded: tuple[Recorder, Nginx]) -> None:
    """Requests on 100 client connections reach the server on a few connections that stay open."""
    recorder, nginx = recorded
    before = recorder.connections
    for _ in range(100):
        assert send_raw(nginx.connect(), CANCEL + b"\r\n").endswith(b"{}")
    # Each of nginx's processes keeps connections of its own.
    processes = len(children(nginx.pid))
    assert recorder.connections - before <= processes, f"{recorder.connections - before} for {processes} processes"


def test_nginx_hides_its_version(nginx: Nginx) -> None:
    """The header `Server` is `nginx` without a version, in the servers' responses and in nginx's own."""
    for data in (CANCEL + b"\r\n", b"garbage\r\n\r\n", b"TRACE /" + REST + b"\r\n"):
        response = send_raw(nginx.connect(), data)
        assert b"\r\nServer: nginx\r\n" in response and b"nginx/" not in response, response


def test_nginx_starts_without_warnings(nginx: Nginx) -> None:
    """nginx starts with deploy/nginx.conf and logs no warning."""
    warnings = [line for line in nginx.log().splitlines() if "[warn]" in line or "[emerg]" in line]
    assert not warnings, warnings
