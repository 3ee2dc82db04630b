"""HTTP itself: JSON, other paths and methods, HEAD, and bytes that are not HTTP (WIRE, RETRY-4).

The last tests send such bytes. They may break a server for all that follows.
"""

import json
import time
from dataclasses import replace

import pytest

from contract_tests.suite.calls import Order, acquire_request, assign_request, cancel_request, request_to
from contract_tests.suite.contract import (
    ACQUIRE,
    ACQUIRED,
    ASSIGN,
    CANCEL,
    CANCELED,
    CREATED,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    OPERATIONS,
    Operation,
)
from contract_tests.suite.rules import operation_of, wrong_form
from contract_tests.suite.scenario import Scenario
from contract_tests.suite.transport import Request, Response
from contract_tests.suite.waiting import LEAST_S, WaitingOrders, seconds_between

BROWSER = (("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),)
PART = (("Range", "bytes=0-5"),)
every_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)


@pytest.mark.clause("WIRE-1")
@pytest.mark.parametrize("headers", [(), BROWSER, PART], ids=["plain", "browser", "part"])
def test_every_answer_is_json(scenario: Scenario, headers: tuple[tuple[str, str], ...]) -> None:
    """Each answer of the operations is a JSON object and says so, for any client."""
    order = scenario.new_order()
    for request in (
        *map(request_to, OPERATIONS),
        assign_request(order),
        assign_request(order),
        acquire_request(order.executor_id),
        acquire_request(scenario.new_id("executor")),
        cancel_request(order.order_id),
        cancel_request(scenario.new_id("order")),
    ):
        response = scenario.send(replace(request, headers=headers))
        check_json(scenario, response)
        scenario.check(response.message != "", 'an object with the key "message"')


@pytest.mark.clause("WIRE-1")
def test_text_of_all_kinds_is_written_in_json(scenario: Scenario) -> None:
    """An answer stays a JSON object, whatever text it has."""
    plain = scenario.new_order()
    order = Order(f'{plain.order_id} "é\\ö"', f"{plain.executor_id} ü", f"{plain.zone_id} 🚲 日本")
    for request in (
        assign_request(order),
        acquire_request(order.executor_id),
        cancel_request(order.order_id),
        cancel_request(order.order_id),
        request_to(ACQUIRE, "executor_id=%FF"),
    ):
        check_json(scenario, scenario.send(request))


def check_json(scenario: Scenario, response: Response) -> None:
    """Check that a response is a JSON object, and says so."""
    for finding in wrong_form(response):
        # A server that writes its answers in another form mostly does so everywhere.
        scenario.relies |= {finding.clause}
        scenario.fail(finding.expected)


@pytest.mark.clause("WIRE-2")
@pytest.mark.parametrize(
    "path",
    [
        "/no-such-path",
        "/orders",
        "/order",
        "/orders/acquire",
        "/orders/cancel",
        "/order/assign",
        f"{ASSIGN.path}/more",
        f"{ACQUIRE.path}/more",
        f"{ASSIGN.path}ed",
        f"{CANCEL.path}-all",
        ASSIGN.path.title(),
        ACQUIRE.path.upper(),
        f"/api{ASSIGN.path}",
        f"{CANCEL.path}.json",
    ],
)
def test_any_other_path_is_not_found(scenario: Scenario, path: str) -> None:
    """For any method, parameters and client, the answer is 404 in JSON, and nothing happens."""
    order, other = scenario.prepare(), scenario.new_order()
    for request in (assign_request(other), acquire_request(order.executor_id), cancel_request(order.order_id)):
        for headers in ((), BROWSER):
            response = scenario.send(replace(request, path=path, headers=headers))
            check_json(scenario, response)
            scenario.check(response.answer == NOT_FOUND, str(NOT_FOUND))
    scenario.check(scenario.send(Request("DELETE", path)).status == NOT_FOUND.status, str(NOT_FOUND))
    scenario.acquire(order)
    scenario.assign(other)


METHODS = ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"]
PREFLIGHT = (("Origin", "http://app.example"), ("Access-Control-Request-Method", "PUT"))


@pytest.mark.clause("WIRE-3")
@pytest.mark.parametrize(
    ("operation", "method"),
    [(operation, method) for operation in OPERATIONS for method in METHODS if method != operation.method],
    ids=lambda value: getattr(value, "name", value),
)
def test_any_other_method_is_not_allowed(scenario: Scenario, operation: Operation, method: str) -> None:
    """With and without parameters, the answer is 405 in JSON with Allow, and nothing happens."""
    order, other = scenario.prepare(), scenario.new_order()
    calls = assign_request(other), acquire_request(order.executor_id), cancel_request(order.order_id)
    other_call = next(replace(call, method=method) for call in calls if operation_of(call) is operation)
    # Some frameworks take the method from this header.
    override = (("X-HTTP-Method-Override", operation.method),)
    for request in (
        other_call,
        replace(other_call, headers=PREFLIGHT),
        replace(other_call, headers=override),
        replace(other_call, query=""),
    ):
        response = scenario.send(request)
        check_not_allowed(scenario, operation, response)
        check_json(scenario, response)
        scenario.check(response.answer == METHOD_NOT_ALLOWED, str(METHOD_NOT_ALLOWED))
    scenario.acquire(order)
    scenario.assign(other)


def check_not_allowed(scenario: Scenario, operation: Operation, response: Response) -> None:
    """Check that a response is a 405, and that Allow has the operation's method alone."""
    scenario.check(response.status == METHOD_NOT_ALLOWED.status, str(METHOD_NOT_ALLOWED.status))
    allowed = {method.strip() for method in (response.header("Allow") or "").split(",")}
    got = f"{response.status} with Allow: {response.header('Allow')}"
    scenario.check(allowed == {operation.method}, f"Allow: {operation.method}", got)


@pytest.mark.clause("WIRE-3")
@every_operation
def test_unknown_methods_are_refused(scenario: Scenario, operation: Operation) -> None:
    """A method of another protocol is 405. HTTP servers and proxies may refuse some methods by themselves."""
    query = f"order_id={scenario.new_id('order')}"
    response = scenario.send(Request("PROPFIND", operation.path, query))
    check_not_allowed(scenario, operation, response)
    check_json(scenario, response)
    for method in ("TRACE", "CANCEL"):
        response = scenario.send(Request(method, operation.path, query))
        scenario.check(400 <= response.status < 500 or response.status == 501, str(METHOD_NOT_ALLOWED.status))


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(ASSIGN, marks=pytest.mark.clause("WIRE-3")),
        pytest.param(ACQUIRE, marks=pytest.mark.clause("WIRE-4")),
        pytest.param(CANCEL, marks=pytest.mark.clause("WIRE-3")),
    ],
    ids=lambda operation: operation.name,
)
def test_head_is_not_allowed(scenario: Scenario, operation: Operation) -> None:
    """HEAD is another method, also on acquire, although that is a GET. The answer has no body."""
    order = scenario.prepare()
    query = assign_request(order).query
    for head in (Request("HEAD", operation.path, query), Request("HEAD", operation.path)):
        response = scenario.send(head)
        scenario.check(response.status == METHOD_NOT_ALLOWED.status, str(METHOD_NOT_ALLOWED.status))
    received = scenario.send_raw(scenario.run.target.encode(Request("HEAD", operation.path, query)))
    _, _, body = received.partition(b"\r\n\r\n")
    scenario.check(not body, "no body in the answer to HEAD")
    scenario.acquire(order)


@pytest.mark.clause("WIRE-4")
def test_a_head_acquires_nothing(scenario: Scenario, waiting_orders: WaitingOrders) -> None:
    """After a HEAD, the next GET is the first acquire. Its time shows that."""
    order = waiting_orders.take("asked-by-head", scenario)
    between = seconds_between(scenario, scenario.acquire(order))
    expected = f"an acquire_time at least {LEAST_S:.1f} s after the assign_time: that of the GET"
    scenario.check(between >= LEAST_S, expected, f"an acquire_time {between} s after it: that of the HEAD")


NOT_HTTP = {
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
@pytest.mark.parametrize("data", NOT_HTTP.values(), ids=NOT_HTTP)
def test_bytes_that_are_not_http_disturb_nobody(scenario: Scenario, data: bytes) -> None:
    """Bytes that are no request never succeed, and others are served as before."""
    order = scenario.prepare()
    received = scenario.send_raw(data)
    scenario.check(not received.startswith(b"HTTP/1.1 2"), "a refusal, or nothing")
    scenario.acquire(order)
    scenario.send_raw(data, wait_s=0.01)
    scenario.assign(scenario.new_order())


@pytest.mark.clause("WIRE-5")
@pytest.mark.parametrize(
    "header",
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
def test_a_broken_header_disturbs_nobody(scenario: Scenario, header: bytes) -> None:
    """A request with a broken header may be refused or understood. Others are served as before."""
    order = scenario.prepare()
    first_line = f"{CANCEL.method} {CANCEL.path} HTTP/1.1".encode()
    scenario.send_raw(b"\r\n".join([first_line, b"Host: x", b"Connection: close", header, b"", b""]))
    scenario.acquire(order)


@pytest.mark.clause("WIRE-6")
def test_a_target_may_be_a_whole_url(scenario: Scenario) -> None:
    """Each operation understands a target in the absolute form, as clients send it to a proxy (RFC 9112 §3.2.2)."""
    order, cancelled = scenario.new_order(), scenario.prepare()
    scenario.call(replace(assign_request(order), absolute=True), CREATED)
    response = scenario.call(replace(acquire_request(order.executor_id), absolute=True), ACQUIRED)
    scenario.check_profile(response, order)
    scenario.call(replace(cancel_request(cancelled.order_id), absolute=True), CANCELED)


@pytest.mark.clause("WIRE-5")
@every_operation
@pytest.mark.parametrize("length", [10_000, 100_000, 1_000_000])
def test_huge_urls_are_refused(scenario: Scenario, operation: Operation, length: int) -> None:
    """A huge identifier is refused, in JSON or by the HTTP server, or cut off. Others are served as before."""
    # The limit of identifiers keeps most servers from taking a huge one.
    scenario.relies = frozenset({"PARAM-4"})
    order = scenario.prepare()
    query = "&".join(f"{name}={scenario.new_id('huge')}" for name in operation.parameters)
    request = request_to(operation, query + "x" * length)
    received = scenario.send_raw(scenario.run.target.encode(request), wait_s=2)
    status = received.split(b" ", 2)[1:2]
    scenario.check(not status or status[0][:1] == b"4", "a refusal (4xx), or none")
    scenario.acquire(order)


@pytest.mark.clause("RETRY-4")
@pytest.mark.parametrize("missing", [1, 12, 40])
def test_a_request_cut_off_in_its_first_line_has_no_effect(scenario: Scenario, missing: int) -> None:
    """A client that goes away within the first line of its request has requested nothing.

    Some HTTP servers take a head that ends after its first line for a whole one. The contract does not forbid that.
    """
    current, order = scenario.prepare(), scenario.new_order()
    for request in (assign_request(order), cancel_request(current.order_id + "x" * 40)):
        data, _, _ = scenario.run.target.encode(request).partition(b" HTTP/1.1")
        scenario.send_raw(data[:-missing], wait_s=0.01)
    # The server has finished with the requests.
    time.sleep(0.02)
    scenario.acquire_nothing(order.executor_id)
    scenario.acquire(current)
    scenario.assign(order)
