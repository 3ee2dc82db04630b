"""Faults: which ones there are, what they do to requests, and which requests get them."""

import json
import re
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import httpx
import pytest

from harness.client import ACQUIRED, ALREADY_EXISTS, CREATED, NO_ORDERS, message, receive_all
from harness.server import ServerProcess
from orders.contract import Contract
from orders.controls.faults import Fault, make_fault
from orders.controls.schemas import ControlError
from tests.controls.client import IN_MEMORY, OPERATIONS, ControlledClient, problems

ASSIGN = {"operation": "assign_order"}
# Kind -> the error of the client, and its message.
BROKEN_OFF: dict[str, tuple[type[Exception], str]] = {
    "drop": (httpx.RemoteProtocolError, "without sending a response"),
    "reset": (httpx.ReadError, "Connection reset by peer"),
    "truncate": (httpx.RemoteProtocolError, "without sending complete message body"),
}


def test_the_fields_of_a_fault_have_defaults() -> None:
    """A fault happens once, before the transaction, without a delay. An error is a 500; the others have no status."""
    assert make_fault({**ASSIGN, "kind": "error"}) == Fault(
        operation="assign_order", kind="error", when="before", status=500, body="json", delay_ms=0, count=1
    )
    assert make_fault({**ASSIGN, "kind": "drop"}).status is None
    assert make_fault({**ASSIGN, "kind": "delay", "delay_ms": 1}).status is None


def test_a_whole_number_may_be_written_as_a_fraction() -> None:
    """JSON Schema takes 2.0 for an integer, and so do the controls."""
    fault = make_fault({**ASSIGN, "kind": "error", "count": 2.0, "status": 500.0, "delay_ms": 1.0})
    assert [repr(number) for number in (fault.count, fault.status, fault.delay_ms)] == ["2", "500", "1"]


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({}, "operation is missing; a fault needs operation, kind"),
        ({**ASSIGN}, "kind is missing; a fault needs operation, kind"),
        ({"kind": "drop"}, "operation is missing; a fault needs operation, kind"),
        ({**ASSIGN, "kind": "delay"}, "delay_ms is missing; a fault of the kind delay needs operation, kind, delay_ms"),
        ({**ASSIGN, "kind": "explode"}, "kind must be one of error, delay, drop, reset, truncate, not 'explode'"),
        ({**ASSIGN, "kind": None}, "kind must be one of error, delay, drop, reset, truncate, not None"),
        ({**ASSIGN, "kind": ["drop"]}, "kind must be one of error, delay, drop, reset, truncate, not ['drop']"),
        (
            {"operation": "assign", "kind": "drop"},
            "operation must be one of assign_order, acquire_order, cancel_order, *, not 'assign'",
        ),
        ({**ASSIGN, "kind": "drop", "order_id": ""}, "order_id must be text of 1 to 255 characters, not ''"),
        ({**ASSIGN, "kind": "drop", "order_id": "x" * 256}, "order_id must be text of 1 to 255 characters"),
        ({**ASSIGN, "kind": "drop", "order_id": None}, "order_id must be text of 1 to 255 characters, not None"),
        ({**ASSIGN, "kind": "drop", "executor_id": "1\n"}, "executor_id: control characters and surrogates are not"),
        ({**ASSIGN, "kind": "drop", "executor_id": "\ud800"}, "executor_id: control characters and surrogates are not"),
        ({"operation": None, "kind": "drop"}, "operation must be one of"),
        ({"operation": ["assign_order"], "kind": "drop"}, "operation must be one of"),
        ({**ASSIGN, "kind": "drop", "when": "during"}, "when must be one of before, after, not 'during'"),
        ({**ASSIGN, "kind": "truncate", "when": "before"}, "when must be after, not 'before'"),
        ({**ASSIGN, "kind": "reset", "status": 500}, "unknown field 'status'; a fault of the kind reset has"),
        (
            {**ASSIGN, "kind": "drop", "cuont": 1},
            "unknown field 'cuont'; a fault of the kind drop has operation, order_id, executor_id, kind, when,",
        ),
        ({**ASSIGN, "kind": "drop", "status": 500}, "unknown field 'status'; a fault of the kind drop has operation"),
        ({**ASSIGN, "kind": "drop", "status": None}, "unknown field 'status'; a fault of the kind drop has"),
        ({**ASSIGN, "kind": "drop", "count": -1}, "count must be a whole number from 1 to 1000000, not -1"),
        ({**ASSIGN, "kind": "drop", "count": 0}, "count must be a whole number"),
        ({**ASSIGN, "kind": "drop", "count": 1.5}, "count must be a whole number"),
        ({**ASSIGN, "kind": "drop", "count": True}, "count must be a whole number"),
        ({**ASSIGN, "kind": "drop", "count": "2"}, "count must be a whole number"),
        ({**ASSIGN, "kind": "drop", "count": None}, "count must be a whole number"),
        ({**ASSIGN, "kind": "drop", "count": 10**30}, "count must be a whole number"),
        ({**ASSIGN, "kind": "drop", "count": float("nan")}, "count must be a whole number"),
        ({**ASSIGN, "kind": "drop", "count": float("inf")}, "count must be a whole number"),
        ({**ASSIGN, "kind": "delay", "delay_ms": 0}, "delay_ms must be a whole number from 1 to 600000, not 0"),
        ({**ASSIGN, "kind": "delay", "delay_ms": -5}, "delay_ms must be a whole number from 1 to 600000"),
        ({**ASSIGN, "kind": "delay", "delay_ms": 600001}, "delay_ms must be a whole number from 1 to 600000"),
        ({**ASSIGN, "kind": "drop", "delay_ms": 600001}, "delay_ms must be a whole number from 0 to 600000"),
        ({**ASSIGN, "kind": "error", "status": 200}, "status must be a whole number from 400 to 599, not 200"),
        ({**ASSIGN, "kind": "error", "status": 399}, "status must be a whole number from 400 to 599, not 399"),
        ({**ASSIGN, "kind": "error", "status": 600}, "status must be a whole number from 400 to 599, not 600"),
        ({**ASSIGN, "kind": "error", "status": None}, "status must be a whole number from 400 to 599, not None"),
        ({**ASSIGN, "kind": "error", "body": "xml"}, "body must be one of json, html, empty, not 'xml'"),
        ({**ASSIGN, "kind": "drop", "body": "html"}, "unknown field 'body'; a fault of the kind drop has operation"),
        (
            {**ASSIGN, "kind": "error", "retry_after": -1},
            "retry_after must be a whole number from 0 to 86400, not -1",
        ),
        ({**ASSIGN, "kind": "error", "retry_after": "soon"}, "retry_after must be a whole number"),
    ],
)
def test_a_wrong_fault_is_refused(fields: dict[str, Any], complaint: str) -> None:
    """The message says what is allowed. The definition refuses the fault too."""
    with pytest.raises(ControlError) as caught:
        make_fault(fields)
    assert str(caught.value).startswith(complaint), f"{fields}: {caught.value}"
    assert problems(fields, {"$ref": "#/components/schemas/Fault"}), fields


@pytest.mark.parametrize(
    ("kind", "when", "outcome", "is_stored"),
    [
        ("error", "before", "answered", False),
        ("error", "after", "answered", True),
        ("drop", "before", "dropped", False),
        ("drop", "after", "dropped", True),
        ("reset", "before", "reset", False),
        ("reset", "after", "reset", True),
        ("truncate", "after", "truncated", True),
        ("delay", "before", "answered", True),
        ("delay", "after", "answered", True),
    ],
)
def test_a_fault_happens_before_or_after_the_transaction(
    any_controls: ControlledClient, kind: str, when: str, outcome: str, is_stored: bool
) -> None:
    """Before, nothing is stored. After, the whole order is stored, and the client's next request is a repeat."""
    controls = any_controls
    controls.assign("earlier", "executor")
    delay = {"delay_ms": 30} if kind == "delay" else {}
    controls.fault("assign_order", kind, when=when, **delay)
    if kind in BROKEN_OFF:
        error, text = BROKEN_OFF[kind]
        with pytest.raises(error, match=text):
            controls.call("assign_order")
    else:
        assert message(controls.call("assign_order")) == (CREATED if kind == "delay" else "Unknown error")
    statuses = {order["order_id"]: order["execution_status"] for order in controls.orders(executor_id="executor")}
    expected = {"earlier": "completed", "order": "assigned"} if is_stored else {"earlier": "assigned"}
    assert statuses == expected
    assert controls.faults() == []
    assert message(controls.call("assign_order")) == (ALREADY_EXISTS if is_stored else CREATED)
    recorded = controls.requests()[1]
    assert recorded["fault"]["count"] == 1
    assert (recorded["fault"]["kind"], recorded["fault"]["when"]) == (kind, when)
    assert recorded["outcome"] == outcome
    if kind == "delay":
        assert recorded["duration_ms"] >= 30


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_error_is_one_of_the_contract(controls: ControlledClient, contract: Contract, operation: str) -> None:
    """A fault's error is the contract's first example of its status: of 500, if the fault names no status."""
    (definition,) = [known for known in contract.operations if known.operation_id == operation]
    for status in (None, 500, 400):
        controls.fault(operation, "error", **({} if status is None else {"status": status}))
        response = controls.call(operation)
        expected = status or 500
        assert (response.status_code, response.json()) == (expected, definition.examples[expected])
        assert "preference-applied" not in response.headers
    assert controls.orders() == []


@pytest.mark.parametrize(
    ("fields", "content_type", "content"),
    [
        ({"status": 429}, "application/json", '{"message": "Too many requests"}'),
        ({"status": 502, "body": "html"}, "text/html", "<title>502 Bad Gateway</title>"),
        ({"status": 503, "body": "empty"}, "text/plain", ""),
        ({"status": 500, "body": "html"}, "text/html", "<title>500 Internal Server Error</title>"),
        ({"status": 599}, "application/json", '{"message": "Unknown error"}'),
        ({"status": 599, "body": "html"}, "text/html", "<title>599 Unknown error</title>"),
    ],
)
def test_an_error_can_be_one_of_a_gateway(
    controls: ControlledClient, fields: dict[str, Any], content_type: str, content: str
) -> None:
    """It has the status and the kind of body that the fault asks for, and the journal has it."""
    controls.fault("acquire_order", "error", **fields)
    response = controls.call("acquire_order")
    got = f"{response.status_code} {response.headers} {response.text!r}"
    assert (response.status_code, response.headers["content-type"]) == (fields["status"], content_type), got
    assert content in response.text and int(response.headers["content-length"]) == len(response.content), got
    (recorded,) = controls.requests(status=fields["status"])
    answer = response.json() if content_type == "application/json" else response.text
    assert (recorded["outcome"], recorded["answer"]) == ("answered", answer)


def test_an_error_can_say_when_to_repeat(controls: ControlledClient) -> None:
    """`retry_after` becomes the header `Retry-After`. Without it, there is no such header."""
    controls.fault("acquire_order", "error", status=429, retry_after=2)
    controls.fault("acquire_order", "error", status=429)
    assert [controls.call("acquire_order").headers.get("retry-after") for _ in range(2)] == ["2", None]


def test_a_truncated_answer_is_half_of_the_normal_one(
    controlled_server: ServerProcess, controls: ControlledClient
) -> None:
    """The status and the headers are those of the whole answer. The journal has the half that was sent."""
    controls.fault("acquire_order", "truncate")
    with controlled_server.connect() as connection:
        connection.sendall(b"GET /order/acquire?executor_id=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = receive_all(connection).decode().partition("\r\n\r\n")
    whole = json.dumps({"message": NO_ORDERS})
    assert head.startswith("HTTP/1.1 200 OK\r\n") and f"Content-Length: {len(whole)}" in head, head
    assert body == whole[: len(whole) // 2]
    (recorded,) = controls.requests()
    assert (recorded["outcome"], recorded["status"], recorded["answer"]) == ("truncated", 200, body)


@pytest.mark.parametrize("kind", ["error", "drop"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_error_or_a_drop_can_be_late(controls: ControlledClient, kind: str, when: str) -> None:
    """Both wait for the `delay_ms` of the fault, or for the `wait` of the request's `Prefer`."""
    controls.fault("acquire_order", kind, when=when, delay_ms=30, count=2)
    preferred = f"{'drop' if kind == 'drop' else 'code=500'}, wait=0.03, when={when}"
    for headers in ({}, {}, {"Prefer": preferred}):
        with suppress(httpx.RemoteProtocolError):
            controls.call("acquire_order", headers)
    recorded = controls.requests()
    assert [request["fault"]["delay_ms"] for request in recorded] == [30] * 3
    assert [request["fault"]["count"] for request in recorded] == [1] * 3
    assert min(request["duration_ms"] for request in recorded) >= 30


def test_faults_happen_in_their_order(controls: ControlledClient) -> None:
    """Each fault happens `count` times, the first one first. Then the answers are normal again."""
    controls.fault("acquire_order", "error", count=2)
    controls.fault("acquire_order", "error", status=400)
    controls.fault("acquire_order", "drop")
    assert [fault["count"] for fault in controls.faults()] == [2, 1, 1]
    assert controls.acquire("executor").status_code == 500
    assert [fault["count"] for fault in controls.faults()] == [1, 1, 1]
    assert [controls.acquire("executor").status_code for _ in range(2)] == [500, 400]
    with pytest.raises(httpx.RemoteProtocolError):
        controls.acquire("executor")
    assert [message(controls.acquire("executor")) for _ in range(3)] == [NO_ORDERS] * 3
    assert controls.faults() == []


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_fault_affects_only_its_operation(controls: ControlledClient, operation: str) -> None:
    """Requests of other operations, paths and methods get a normal answer, and the fault remains."""
    for each in OPERATIONS:
        controls.fault(each, "error")
    controls.fault(operation, "error", status=400)
    for other in OPERATIONS:
        if other != operation:
            assert [controls.call(other).status_code for _ in range(2)] == [500, 200]
    assert controls.http.get("/nothing").status_code == 404
    assert controls.http.delete("/order/acquire").status_code == 405
    assert controls.http.get("/health").status_code == 200
    assert [controls.call(operation).status_code for _ in range(3)] == [500, 400, 200]


def test_a_fault_can_be_for_one_order_or_executor(controls: ControlledClient) -> None:
    """Only requests with the values of the fault get it, however the client has escaped them."""
    controls.fault("assign_order", "error", order_id="é +", count=2)
    controls.fault("assign_order", "error", executor_id="executor-2", status=503)
    controls.fault("assign_order", "error", order_id="order-1", executor_id="executor-1", status=502)
    assert controls.assign("order-1", "executor-3").status_code == 200
    assert controls.assign("order-2", "executor-1").status_code == 200
    assert controls.assign("order-3", "executor-2").status_code == 503
    assert controls.assign("order-1", "executor-1").status_code == 502
    for order_id in ("%C3%A9%20%2B", "%c3%a9+%2B"):
        response = controls.http.put(f"/orders/assign?order_id={order_id}&executor_id=executor-9&zone_id=zone")
        assert response.status_code == 500, order_id
    assert controls.faults() == []


def test_a_fault_can_be_for_all_operations(controls: ControlledClient) -> None:
    """`*` is for requests of every operation; with an `executor_id`, for those that have the parameter."""
    controls.fault("*", "error", count=3)
    controls.fault("*", "error", executor_id="executor", status=503, count=9)
    assert [controls.call(operation).status_code for operation in OPERATIONS] == [500] * 3
    assert [controls.call(operation).status_code for operation in OPERATIONS] == [503, 503, 200]
    assert controls.acquire("other").status_code == 200
    assert controls.requests()[0]["fault"]["operation"] == "*"


@pytest.mark.parametrize(("operation", "name"), [("acquire_order", "order_id"), ("cancel_order", "executor_id")])
def test_a_fault_with_another_parameter_is_refused(controls: ControlledClient, operation: str, name: str) -> None:
    """A fault is refused if no request of its operation could get it."""
    response = controls.control("POST", "faults", json={"operation": operation, "kind": "drop", name: "1"})
    (known,) = {"order_id", "executor_id"} - {name}
    assert (response.status_code, message(response)) == (400, f"{operation} has no {name}; it has {known}")
    assert controls.faults() == []


def test_faults_can_be_deleted(controls: ControlledClient) -> None:
    """DELETE leaves no fault. Orders and journal do not change."""
    controls.assign("order", "executor")
    for operation in OPERATIONS:
        controls.fault(operation, "error", count=3)
    assert len(controls.faults()) == 3
    controls.control("DELETE", "faults")
    assert controls.faults() == []
    assert message(controls.acquire("executor")) == ACQUIRED
    assert len(controls.requests()) == 2


def test_simultaneous_requests_share_the_count_of_a_fault(
    controls: ControlledClient, in_thread: Callable[..., "Future[httpx.Response]"]
) -> None:
    """Exactly `count` of many simultaneous requests get the fault."""
    controls.fault("acquire_order", "error", count=20)
    codes = [call.result().status_code for call in [in_thread(controls.acquire, "executor") for _ in range(60)]]
    assert sorted(codes) == [200] * 40 + [500] * 20


def test_a_request_without_a_whole_answer_is_in_the_log() -> None:
    """The access log has `dropped`, `reset` or `truncated` in place of the status."""
    with ServerProcess("--controls", database=IN_MEMORY) as server, ControlledClient(server.url) as client:
        for kind, (error, _) in BROKEN_OFF.items():
            client.fault("acquire_order", kind)
            with pytest.raises(error):
                client.call("acquire_order")
        server.stop()
        words = re.findall(r"GET /order/acquire\?executor_id=executor (\w+) ", server.log())
        assert words == ["dropped", "reset", "truncated"], server.log()


def test_a_pipelined_request_after_a_drop_is_not_read(
    controlled_server: ServerProcess, controls: ControlledClient
) -> None:
    """The connection of a dropped request is closed. The next request on it is not read."""
    controls.fault("cancel_order", "drop")
    request = b"POST /order/cancel?order_id=1 HTTP/1.1\r\nHost: x\r\n\r\n"
    with controlled_server.connect() as connection:
        connection.sendall(request * 2)
        received = receive_all(connection)
    assert received == b""
    recorded = [(request["outcome"], request["operation"]) for request in controls.requests()]
    assert recorded == [("dropped", "cancel_order")]
