"""HTTP itself: JSON, other paths and methods, HEAD, and what is no HTTP (WIRE)."""

import json
from dataclasses import replace

import pytest

from contract_tests.rules import (
    ACQUIRE,
    ASSIGN,
    CANCEL,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    OPERATIONS,
    Operation,
)
from contract_tests.service import Order, Service, acquire_request, assign_request, cancel_request
from contract_tests.transport import Answer, Request

BROWSER = (("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),)
PART = (("Range", "bytes=0-5"),)
every_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)


@pytest.mark.clause("WIRE-1")
@pytest.mark.parametrize("headers", [(), BROWSER, PART], ids=["plain", "browser", "part"])
def test_every_answer_is_json(service: Service, headers: tuple[tuple[str, str], ...]) -> None:
    """Each answer that the operations have is a JSON object and says so, whoever asks and whatever is in it."""
    plain = service.new_order()
    order = Order(f'{plain.order_id} "é\\ö"', f"{plain.executor_id} ü", f"{plain.zone_id} 🚲 日本")
    requests = [
        Request(ASSIGN.method, ASSIGN.path),
        Request(ACQUIRE.method, ACQUIRE.path, "executor_id=%FF"),
        Request(CANCEL.method, CANCEL.path),
        assign_request(order),
        assign_request(order),
        acquire_request(order.executor_id),
        cancel_request(order.order_id),
        cancel_request(order.order_id),
        acquire_request(order.executor_id),
    ]
    with service.clause("WIRE-1"):
        for request in requests:
            answer = service.send(replace(request, headers=headers))
            service.check(answer.status in (200, 400), "200 or 400")
            check_json(service, answer)
            service.check(isinstance(answer.message, str), 'an object with the key "message"')


def check_json(service: Service, answer: Answer) -> None:
    """Check that an answer is a JSON object, and says so."""
    kind = (answer.header("Content-Type") or "").partition(";")[0].strip().lower()
    service.check(kind == "application/json", "a Content-Type of application/json")
    service.check(answer.json is not None, "a body that is one JSON object, in UTF-8, each key once")


OTHER_PATHS = [
    "/no-such-path",
    "/orders",
    "/order",
    "/orders/acquire",
    "/orders/cancel",
    "/order/assign",
    "/orders/assign/more",
    "/order/acquire/more",
    "/orders/assigned",
    "/order/cancel-all",
    "/Orders/Assign",
    "/ORDER/ACQUIRE",
    "/api/orders/assign",
    "/order/cancel.json",
]


@pytest.mark.clause("WIRE-2")
@pytest.mark.parametrize("path", OTHER_PATHS)
def test_any_other_path_is_not_found(service: Service, path: str) -> None:
    """Whatever the method, the parameters and the client, the answer is 404 in JSON, and nothing happens."""
    order, other = service.new_order(), service.new_order()
    service.assign(order)
    with service.clause("WIRE-2"):
        for request in (assign_request(other), acquire_request(order.executor_id), cancel_request(order.order_id)):
            for headers in ((), BROWSER):
                answer = service.send(replace(request, path=path, headers=headers))
                service.check(answer.status == 404, "404")
                check_json(service, answer)
                service.check(answer.message == NOT_FOUND, f'"message": "{NOT_FOUND}"')
        service.check(service.send(Request("DELETE", path)).status == 404, "404")
        service.acquire(order)
        service.assign(other)


METHODS = ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"]
PREFLIGHT = (("Origin", "http://app.example"), ("Access-Control-Request-Method", "PUT"))


@pytest.mark.clause("WIRE-3")
@pytest.mark.parametrize(
    ("operation", "method"),
    [(operation, method) for operation in OPERATIONS for method in METHODS if method != operation.method],
    ids=lambda value: getattr(value, "name", value),
)
def test_any_other_method_is_not_allowed(service: Service, operation: Operation, method: str) -> None:
    """With and without parameters, the answer is 405 in JSON with Allow, and nothing happens."""
    order, other = service.new_order(), service.new_order()
    service.assign(order)
    own = {
        "assign": assign_request(other),
        "acquire": acquire_request(order.executor_id),
        "cancel": cancel_request(order.order_id),
    }[operation.name]
    with service.clause("WIRE-3"):
        for request in (
            replace(own, method=method),
            replace(own, method=method, headers=PREFLIGHT),
            replace(own, method=method, query=""),
        ):
            answer = service.send(request)
            check_not_allowed(service, operation, answer)
            check_json(service, answer)
            service.check(answer.message == METHOD_NOT_ALLOWED, f'"message": "{METHOD_NOT_ALLOWED}"')
        service.acquire(order)
        service.cancel(order)
        service.assign(other)


def check_not_allowed(service: Service, operation: Operation, answer: Answer) -> None:
    """Check that an answer is a 405, and that Allow has the one method that is not answered so."""
    service.check(answer.status == 405, "405")
    allowed = {method.strip() for method in (answer.header("Allow") or "").split(",")}
    service.check(allowed == {operation.method}, f"Allow: {operation.method}")


@pytest.mark.clause("WIRE-3")
@every_operation
def test_unknown_methods_are_refused(service: Service, operation: Operation) -> None:
    """A method of another protocol is 405; some may be refused before it comes to that."""
    query = f"order_id={service.run.new_id('order')}"
    with service.clause("WIRE-3"):
        answer = service.send(Request("PROPFIND", operation.path, query))
        check_not_allowed(service, operation, answer)
        check_json(service, answer)
        # HTTP servers and proxies refuse these by themselves.
        for method in ("TRACE", "CANCEL"):
            answer = service.send(Request(method, operation.path, query))
            service.check(400 <= answer.status < 500 or answer.status == 501, "405")


@pytest.mark.clause("WIRE-3", "WIRE-4")
@every_operation
def test_head_is_not_allowed(service: Service, operation: Operation) -> None:
    """HEAD is another method, also on acquire, although that is a GET; its answer has no body."""
    order = service.new_order()
    service.assign(order)
    query = assign_request(order).query
    with service.clause("WIRE-4" if operation is ACQUIRE else "WIRE-3"):
        for head in (Request("HEAD", operation.path, query), Request("HEAD", operation.path)):
            answer = service.send(head)
            check_not_allowed(service, operation, answer)
        received = service.send_raw(service.run.target.raw(Request("HEAD", operation.path, query)))
        _, _, body = received.partition(b"\r\n\r\n")
        service.check(not body, "no body in the answer to HEAD")
        service.acquire(order)
        service.cancel(order)


BROKEN = {
    "words": b"this is not HTTP\r\n\r\n",
    "bytes": bytes(range(128, 256)) * 4 + b"\r\n\r\n",
    "nul": b"\0" * 100 + b"\r\n\r\n",
    "tls": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(range(160)),
    "another-protocol": b"SSH-2.0-client\r\n",
    "http-2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "json": json.dumps({"order_id": "x"}).encode() + b"\r\n\r\n",
    "nothing": b"\r\n\r\n\r\n",
}


@pytest.mark.clause("WIRE-5")
@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_what_is_no_http_disturbs_nobody(service: Service, data: bytes) -> None:
    """Bytes that are no request succeed in nothing, and others are served as before."""
    order = service.new_order()
    service.assign(order)
    service.acquire(order)
    with service.clause("WIRE-5"):
        received = service.send_raw(data)
        service.check(not received.startswith(b"HTTP/1.1 2"), "a refusal, or nothing")
        service.acquire(order)
        service.send_raw(data, wait_s=0.01)
        service.cancel(order)


@pytest.mark.clause("WIRE-5")
@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: -1",
        b"Content-Length: x",
        b"no colon",
        b"X: \x00",
        b"Transfer-Encoding: x",
        b"X: " + b"y" * 200_000,
    ],
    ids=["negative-length", "length-in-words", "no-colon", "nul", "unknown-coding", "long"],
)
def test_a_broken_head_disturbs_nobody(service: Service, head: bytes) -> None:
    """A request whose head is broken may be refused or understood; others are served as before."""
    order = service.new_order()
    service.assign(order)
    service.acquire(order)
    with service.clause("WIRE-5"):
        service.send_raw(b"POST /order/cancel HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + head + b"\r\n\r\n")
        service.acquire(order)
        service.cancel(order)


@pytest.mark.clause("WIRE-5")
@every_operation
@pytest.mark.parametrize("length", [10_000, 100_000, 1_000_000])
def test_huge_urls_are_refused(service: Service, operation: Operation, length: int) -> None:
    """A huge identifier is refused, in JSON or by the HTTP server, or cut off; others are served as before."""
    order = service.new_order()
    service.assign(order)
    service.acquire(order)
    query = "&".join(f"{name}={service.run.new_id('huge')}" for name in operation.parameters)
    request = Request(operation.method, operation.path, query + "x" * length)
    with service.clause("WIRE-5"):
        received = service.send_raw(service.run.target.raw(request), wait_s=2)
        status = received.split(b" ", 2)[1:2]
        service.check(not status or status[0][:1] == b"4", "a refusal (4xx), or none")
        service.acquire(order)
        service.cancel(order)
