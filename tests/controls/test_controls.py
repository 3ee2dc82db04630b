"""The test controls: faults, reset, the journal, the stored orders, on each kind of database."""

import asyncio
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator
from tornado.httputil import HTTPHeaders

from harness.client import ACQUIRED, ALREADY_EXISTS, CANCELED, CREATED, NO_ORDERS, Client, message, not_active
from harness.server import ServerProcess, execute, wait_until
from orders.contract import Contract
from orders.controls import controls as controls_module
from orders.controls.controls import Controls, Fault, Kind, Outcome, RecordedRequest, When
from orders.http.exchange import Handler, Request
from orders.http.responses import Response, message_response
from orders.lifecycle import Orders
from orders.storage.database import DatabaseURL
from orders.storage.models import COLUMNS, ExecutionStatus, rfc3339

OPERATIONS = ["assign_order", "acquire_order", "cancel_order"]
CANNOT_TELL = message_response(500, "Unknown error")


@cache
def document() -> Any:
    """Return the definition of the controls as data."""
    return yaml.safe_load(Path(controls_module.__file__).with_name("controls.yaml").read_text())


def problems(content: Any, schema: dict[str, Any]) -> list[str]:
    """Return what is wrong with a value by a schema of the definition."""
    validator = Draft202012Validator(
        {**schema, "components": document()["components"]}, format_checker=Draft202012Validator.FORMAT_CHECKER
    )
    return [error.message for error in validator.iter_errors(content)]


class ControlledClient(Client):
    """A client with the controls at hand; their answers are held against their definition."""

    def control(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Call the controls, and check the answer's status and body against the definition."""
        response = self.http.request(method, f"/_controls/{path}", **options)
        came = f"{response.request.method} {response.request.url} was answered {response.status_code} {response.text}"
        assert response.headers["content-type"] == "application/json", came
        responses = document()["paths"][f"/_controls/{path.partition('?')[0]}"][method.lower()]["responses"]
        assert str(response.status_code) in responses, came
        definition = responses[str(response.status_code)]
        if "$ref" in definition:
            definition = document()["components"]["responses"][definition["$ref"].rsplit("/", 1)[1]]
        found = problems(response.json(), definition["content"]["application/json"]["schema"])
        assert not found, f"{came}: {found}"
        return response

    def reset(self) -> None:
        """Forget everything."""
        assert message(self.control("POST", "reset")) == "Successfully reset"

    def fault(self, operation: str, kind: str, **fields: Any) -> Any:
        """Queue a fault; return what the server made of it."""
        response = self.control("POST", "faults", json={"operation": operation, "kind": kind, **fields})
        assert response.status_code == 201, response.text
        return response.json()

    def faults(self) -> Any:
        """Return the faults that are still to happen."""
        return self.control("GET", "faults").json()["faults"]

    def requests(self, **filters: Any) -> Any:
        """Return the journal."""
        return self.control("GET", "requests", params=filters).json()["requests"]

    def orders(self, **filters: Any) -> Any:
        """Return the stored orders."""
        return self.control("GET", "orders", params=filters).json()["orders"]

    def call(self, operation: str, headers: dict[str, str] | None = None) -> httpx.Response:
        """Call an operation on `order` of `executor`."""
        method, path, names = {
            "assign_order": ("PUT", "/orders/assign", ("order_id", "executor_id", "zone_id")),
            "acquire_order": ("GET", "/order/acquire", ("executor_id",)),
            "cancel_order": ("POST", "/order/cancel", ("order_id",)),
        }[operation]
        parameters = {name: name.removesuffix("_id") for name in names}
        return self.http.request(method, path, params=parameters, headers=headers)


@pytest.fixture(scope="module", params=["memory", "SQLite", "PostgreSQL"])
def controlled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the controls on, on each place where orders can be."""
    if request.param == "memory":
        database = "sqlite:///:memory:"
    elif request.param == "SQLite":
        database = f"sqlite:///{tmp_path_factory.mktemp('controlled')}/orders.db"
    else:
        database = request.getfixturevalue("postgresql").create_database()
    with ServerProcess("--controls", database=database) as service:
        yield service


@pytest.fixture
def controls(controlled: ServerProcess) -> Iterator[ControlledClient]:
    """A client of a server that has been reset."""
    with ControlledClient(controlled.url) as client:
        client.reset()
        yield client


@pytest.fixture
def aside() -> Iterator[Callable[..., "Future[httpx.Response]"]]:
    """What makes a call on another thread, and returns its future."""
    with ThreadPoolExecutor(8) as threads:
        yield threads.submit


def test_reset_forgets_everything(controls: ControlledClient) -> None:
    """After a reset there are no orders, no faults, and the journal is empty."""
    controls.assign("order", "executor")
    controls.acquire("executor")
    controls.fault("cancel_order", "drop")
    assert controls.orders() and controls.faults() and controls.requests()
    controls.reset()
    assert (controls.orders(), controls.faults(), controls.requests()) == ([], [], [])
    assert message(controls.assign("order", "executor")) == CREATED
    assert controls.requests()[0]["number"] == 1


@pytest.mark.parametrize(
    ("kind", "when", "answer", "is_stored"),
    [
        ("error", "before", "Unknown error", False),
        ("error", "after", "Unknown error", True),
        ("drop", "before", None, False),
        ("drop", "after", None, True),
        ("delay", "before", CREATED, True),
        ("delay", "after", CREATED, True),
    ],
)
def test_a_fault_is_on_its_side_of_the_transaction(
    controls: ControlledClient, kind: str, when: str, answer: str | None, is_stored: bool
) -> None:
    """Before: nothing has happened. After: the order is stored, whole, and the next request is a normal repeat."""
    controls.assign("earlier", "executor")
    delay = {"delay_ms": 30} if kind == "delay" else {}
    controls.fault("assign_order", kind, when=when, **delay)
    if answer is None:
        with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
            controls.call("assign_order")
    else:
        assert message(controls.call("assign_order")) == answer
    statuses = {order["order_id"]: order["execution_status"] for order in controls.orders(executor_id="executor")}
    expected = {"earlier": "completed", "order": "assigned"} if is_stored else {"earlier": "assigned"}
    assert statuses == expected
    assert controls.faults() == []
    assert message(controls.call("assign_order")) == (ALREADY_EXISTS if is_stored else CREATED)
    recorded = controls.requests()[1]
    assert recorded["fault"]["count"] == 1
    assert (recorded["fault"]["kind"], recorded["fault"]["when"]) == (kind, when)
    assert recorded["outcome"] == ("dropped" if answer is None else "answered")
    if kind == "delay":
        assert recorded["duration_ms"] >= 30


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_error_is_the_contract_s_own(controls: ControlledClient, contract: Contract, operation: str) -> None:
    """A forced error is what the contract shows for its status: 500 unless another one is asked for."""
    (definition,) = [known for known in contract.operations if known.operation_id == operation]
    for status in (None, 500, 400):
        controls.fault(operation, "error", **({} if status is None else {"status": status}))
        response = controls.call(operation)
        expected = status or 500
        assert (response.status_code, response.json()) == (expected, definition.examples[expected])
        assert "preference-applied" not in response.headers
    assert controls.orders() == []


def test_a_whole_number_may_be_written_as_a_fraction(controls: ControlledClient) -> None:
    """To JSON Schema 2.0 is an integer, and so it is here."""
    fault = controls.fault("acquire_order", "error", count=2.0, status=500.0, delay_ms=1.0)
    assert [repr(fault[name]) for name in ("count", "status", "delay_ms")] == ["2", "500", "1"]


@pytest.mark.parametrize("kind", ["error", "drop"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_errors_and_drops_can_be_late(controls: ControlledClient, kind: str, when: str) -> None:
    """Both wait for `delay_ms`, or for what `Prefer` says, before they happen."""
    controls.fault("acquire_order", kind, when=when, delay_ms=30, count=2)
    preferred = f"{'drop' if kind == 'drop' else 'code=500'}, wait=0.03, when={when}"
    for headers in ({}, {}, {"Prefer": preferred}):
        with suppress(httpx.RemoteProtocolError):
            controls.call("acquire_order", headers)
    recorded = controls.requests()
    assert [request["fault"]["delay_ms"] for request in recorded] == [30] * 3
    assert [request["fault"]["count"] for request in recorded] == [1] * 3
    assert min(request["duration_ms"] for request in recorded) >= 30


def test_faults_happen_in_their_order_and_then_all_is_well(controls: ControlledClient) -> None:
    """Each fault happens `count` times, the queue is first in, first out, and what is left can be seen."""
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
def test_a_fault_touches_its_operation_alone(controls: ControlledClient, operation: str) -> None:
    """Other operations, other paths and other methods neither get a fault nor use it up."""
    controls.fault(operation, "error")
    for other in OPERATIONS:
        if other != operation:
            assert controls.call(other).status_code == 200
    assert controls.http.get("/nothing").status_code == 404
    assert controls.http.delete("/order/acquire").status_code == 405
    assert controls.http.get("/health").status_code == 200
    assert controls.call(operation).status_code == 500


def test_faults_can_be_called_off(controls: ControlledClient) -> None:
    """DELETE leaves no fault, and orders and journal as they are."""
    controls.assign("order", "executor")
    for operation in OPERATIONS:
        controls.fault(operation, "error", count=3)
    assert len(controls.faults()) == 3
    controls.control("DELETE", "faults")
    assert controls.faults() == []
    assert message(controls.acquire("executor")) == ACQUIRED
    assert len(controls.requests()) == 2


def test_simultaneous_requests_share_a_fault_s_count(
    controls: ControlledClient, aside: Callable[..., "Future[httpx.Response]"]
) -> None:
    """Of many requests at a time exactly `count` get the fault."""
    controls.fault("acquire_order", "error", count=20)
    codes = [call.result().status_code for call in [aside(controls.acquire, "executor") for _ in range(60)]]
    assert sorted(codes) == [200] * 40 + [500] * 20


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({}, "operation is missing; a fault has operation, kind, when, status, delay_ms, count"),
        ({"operation": "assign_order"}, "kind is missing"),
        (
            {"operation": "assign", "kind": "drop"},
            "operation must be one of assign_order, acquire_order, cancel_order, not 'assign'",
        ),
        ({"operation": None, "kind": "drop"}, "operation must be one of"),
        ({"operation": ["assign_order"], "kind": "drop"}, "operation must be one of"),
        ({"operation": "assign_order", "kind": "explode"}, "kind must be one of error, delay, drop, not 'explode'"),
        ({"operation": "assign_order", "kind": "drop", "when": "during"}, "when must be one of before, after"),
        ({"operation": "assign_order", "kind": "drop", "cuont": 1}, "unknown field 'cuont'; a fault has operation"),
        ({"operation": "assign_order", "kind": "drop", "count": -1}, "count must be a whole number from 1 to 1000000"),
        ({"operation": "assign_order", "kind": "drop", "count": 0}, "count must be a whole number"),
        ({"operation": "assign_order", "kind": "drop", "count": 1.5}, "count must be a whole number"),
        ({"operation": "assign_order", "kind": "drop", "count": True}, "count must be a whole number"),
        ({"operation": "assign_order", "kind": "drop", "count": "2"}, "count must be a whole number"),
        ({"operation": "assign_order", "kind": "drop", "count": None}, "count must be a whole number"),
        ({"operation": "assign_order", "kind": "drop", "count": 10**30}, "count must be a whole number"),
        ({"operation": "assign_order", "kind": "delay"}, "delay_ms is missing"),
        ({"operation": "assign_order", "kind": "delay", "delay_ms": 0}, "delay_ms must be a whole number from 1 to"),
        ({"operation": "assign_order", "kind": "delay", "delay_ms": -5}, "delay_ms must be a whole number from 1"),
        ({"operation": "assign_order", "kind": "delay", "delay_ms": 600001}, "delay_ms must be a whole number"),
        ({"operation": "assign_order", "kind": "error", "status": 418}, "status must be one of 400, 500, not 418"),
        ({"operation": "assign_order", "kind": "error", "status": 200}, "status must be one of 400, 500, not 200"),
        ({"operation": "assign_order", "kind": "error", "status": None}, "status must be one of 400, 500, not None"),
        ({"operation": "assign_order", "kind": "drop", "status": None}, "status is for"),
        ({"operation": "assign_order", "kind": "drop", "status": 500}, "status is for faults of the kind error"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(
    controls: ControlledClient, fields: dict[str, Any], complaint: str
) -> None:
    """The message says what is allowed, nothing is queued, and the definition refuses it too."""
    response = controls.control("POST", "faults", json=fields)
    assert response.status_code == 400 and complaint in message(response), f"{fields}: {response.text}"
    assert controls.faults() == []
    assert problems(fields, {"$ref": "#/components/schemas/Fault"}), fields


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"drop"', b"\xff", b"[" * 60_000, b'{"count": ' + b"9" * 5000 + b"}"]
)
def test_a_body_that_is_no_json_object_is_refused(controls: ControlledClient, body: bytes) -> None:
    """Whatever the body is, the answer is a 400 that says what it must be."""
    response = controls.control("POST", "faults", content=body)
    assert response.status_code == 400, response.text
    assert message(response) == "the body must be a JSON object with the fields of a fault", response.text


@pytest.mark.parametrize(
    ("method", "target", "complaint"),
    [
        ("POST", "reset?really=1", "unknown parameter 'really'; this takes none"),
        ("GET", "faults?operation=assign_order", "unknown parameter 'operation'; this takes none"),
        ("GET", "requests?opertion=x", "unknown parameter 'opertion'; this takes operation, status, since"),
        ("GET", "requests?operation=assign", "operation must be one of assign_order, acquire_order, cancel_order"),
        ("GET", "requests?operation=", "operation must be one of"),
        ("GET", "requests?status=bad", "status must be a whole number, not 'bad'"),
        ("GET", "requests?status=99", "status must be a whole number"),
        ("GET", "requests?status=200&status=400", "status is given more than once"),
        ("GET", "requests?operation=%FF", "operation is not UTF-8"),
        ("GET", "requests?since=yesterday", "since must be a time with its offset, 2026-01-31T12:00:00Z say"),
        ("GET", "requests?since=2026-01-31T12:00:00", "since must be a time with its offset"),
        ("GET", "requests?since=0001-01-01T00:00:00%2B05:00", "since must be a time with its offset"),
        ("GET", "requests?since=9999-12-31T23:59:59-05:00", "since must be a time with its offset"),
        ("GET", "orders?status=done", "status must be one of assigned, acquired, completed, cancelled, not 'done'"),
        ("GET", "orders?limit=0", "limit must be a whole number from 1 to 10000"),
        ("GET", "orders?order_id=%00", "order_id cannot have the character U+0000"),
        ("GET", "orders?executor_id=a%00b", "executor_id cannot have the character U+0000"),
        ("GET", "orders?zone_id=1", "unknown parameter 'zone_id'; this takes order_id, executor_id, status, limit"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(
    controls: ControlledClient, method: str, target: str, complaint: str
) -> None:
    """The message says what is allowed."""
    response = controls.control(method, target)
    assert response.status_code == 400 and message(response).startswith(complaint), response.text


def test_other_methods_and_paths_of_the_controls(controls: ControlledClient) -> None:
    """They are answered as everywhere: 405 with `Allow`, and 404."""
    response = controls.http.put("/_controls/faults")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, POST, DELETE")
    assert controls.http.get("/_controls/nothing").status_code == 404
    assert controls.http.get("/_controls/").status_code == 404


@pytest.mark.parametrize(
    ("header", "status", "answer", "applied", "is_stored"),
    [
        ("code=500", 500, "Unknown error", "code=500", False),
        ("code=500, when=after", 500, "Unknown error", "code=500, when=after", True),
        ("wait=0.02", 200, CREATED, "wait=0.02", True),
        ("wait=0", 200, CREATED, "wait=0", True),
        ("code=500; when=after", 500, "Unknown error", "code=500, when=after", True),
        ("code=500; when=after, when=before", 500, "Unknown error", "code=500, when=after", True),
        ("respond-async; when=after, code=500", 500, "Unknown error", "code=500", False),
        ('x="a, code=500", y="b; drop"', 200, CREATED, None, True),
        ('code="500"', 500, "Unknown error", "code=500", False),
        ('Wait = "0.02" ; x=1,respond-async , CODE=500', 500, "Unknown error", "code=500, wait=0.02", False),
        ("code=500, code=400", 500, "Unknown error", "code=500", False),
        ("code=400", 400, "Missing parameters, please provide order_id, executor_id and zone_id", "code=400", False),
        ("code=200", 200, CREATED, "code=200", True),
        ("code=200, wait=0.01", 200, CREATED, "code=200, wait=0.01", True),
        ("respond-async, handling=lenient", 200, CREATED, None, True),
        ("when=after", 200, CREATED, None, True),
        ("", 200, CREATED, None, True),
    ],
)
def test_a_request_can_prefer_a_fault(
    controls: ControlledClient, header: str, status: int, answer: str, applied: str | None, is_stored: bool
) -> None:
    """`Prefer` gives its own request a fault, the answer says what was applied, and the queue is left alone."""
    controls.fault("acquire_order", "error")
    response = controls.call("assign_order", {"Prefer": header})
    assert (response.status_code, message(response)) == (status, answer), header
    assert response.headers.get("preference-applied") == applied
    assert bool(controls.orders()) == is_stored
    if not is_stored:
        assert message(controls.call("assign_order")) == CREATED
    assert len(controls.faults()) == 1
    assert controls.call("acquire_order").status_code == 500


@pytest.mark.parametrize(("header", "is_stored"), [("drop", False), ("drop, when=after, wait=0.01", True)])
def test_a_request_can_prefer_no_answer(controls: ControlledClient, header: str, is_stored: bool) -> None:
    """`Prefer: drop` closes the connection, on either side of the transaction."""
    with pytest.raises(httpx.RemoteProtocolError):
        controls.call("assign_order", {"Prefer": header})
    assert bool(controls.orders()) == is_stored


def test_a_preference_comes_before_the_queue(controls: ControlledClient) -> None:
    """A request that says what it wants, be it the normal answer, does not use up a fault that waits."""
    controls.fault("acquire_order", "error", status=400)
    assert controls.call("acquire_order", {"Prefer": "code=500"}).status_code == 500
    assert controls.call("acquire_order", {"Prefer": "code=200"}).status_code == 200
    assert controls.call("acquire_order", {"Prefer": "wait=0"}).status_code == 200
    assert len(controls.faults()) == 1
    assert controls.call("acquire_order").status_code == 400


def test_a_success_that_is_preferred_is_not_forced(controls: ControlledClient) -> None:
    """`code=200` promises nothing: the answer is the real one, and says that nothing was applied."""
    controls.call("assign_order")
    response = controls.call("assign_order", {"Prefer": "code=200"})
    assert (response.status_code, message(response)) == (400, ALREADY_EXISTS)
    assert "preference-applied" not in response.headers


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ("code=418", "code must be one of 200, 400, 500, not '418'"),
        ("code=", "code must be one of 200, 400, 500, not ''"),
        ("code=5xx", "code must be one of"),
        ("code=0500", "code must be one of"),
        ('code="500', "code must be one of"),
        ("drop=no", "drop takes no value, not 'no'"),
        ("drop, code=200", "drop and code exclude each other"),
        ("wait=600.1", "wait must be seconds"),
        ("wait=", "wait must be seconds"),
        ("code=500; when=never", "when must be one of before, after"),
        ("wait=soon", "wait must be seconds from 0 to 600, not 'soon'"),
        ("wait=-1", "wait must be seconds"),
        ("wait=601", "wait must be seconds"),
        ("wait=1e1", "wait must be seconds"),
        ("wait=99999999999999999999", "wait must be seconds"),
        ("drop, when=never", "when must be one of before, after, not 'never'"),
        ("drop, code=500", "drop and code exclude each other"),
    ],
)
def test_a_preference_that_makes_no_sense_is_refused(controls: ControlledClient, header: str, complaint: str) -> None:
    """It is a 400 that says what is allowed, and nothing has happened."""
    response = controls.call("assign_order", {"Prefer": header})
    assert response.status_code == 400, response.text
    assert message(response).startswith(f"Invalid header Prefer: {complaint}"), response.text
    assert "preference-applied" not in response.headers
    assert controls.orders() == []


def test_a_request_in_the_journal_is_all_that_was_sent_and_answered(controls: ControlledClient) -> None:
    """The journal has the request as the client sent it, and the answer as the client got it."""
    before = rfc3339(datetime.now(UTC))
    response = controls.http.put(
        "/orders/assign?order_id=a+b&executor_id=%C3%A9&zone_id=1&zone_id=2&x=%FF",
        headers={"X-Request-Id": "42"},
        content="ignored é",
    )
    (recorded,) = controls.requests()
    assert before <= recorded.pop("time") <= rfc3339(datetime.now(UTC))
    assert recorded.pop("duration_ms") > 0
    headers = recorded.pop("headers")
    assert (headers["x-request-id"], headers["content-length"]) == ("42", "10")
    assert (
        recorded
        == {
            "number": 1,
            "operation": "assign_order",
            "method": "PUT",
            "target": "/orders/assign?order_id=a+b&executor_id=%C3%A9&zone_id=1&zone_id=2&x=%FF",
            "parameters": {"order_id": "a b", "executor_id": "é", "zone_id": "2", "x": "�"},
            "body": "ignored é",
            "fault": None,
            "outcome": "answered",
            "status": 400,
            "answer": {"message": "Invalid parameter zone_id: given more than once"},
        }
        and response.json() == recorded["answer"]
    )


def test_the_journal_cuts_bodies(controls: ControlledClient) -> None:
    """Of a body it keeps the first 1,000 bytes."""
    controls.http.put("/orders/assign", content="é" * 501)
    assert controls.requests()[0]["body"] == "é" * 500


def test_the_journal_has_what_was_no_operation(controls: ControlledClient) -> None:
    """Wrong paths and methods are there; the pages, `/health` and the controls themselves are not."""
    for path in ("/health", "/docs", "/openapi.json", "/_controls", "/_controls/nothing", "/_controls/openapi.json"):
        controls.http.get(path)
    controls.faults()
    controls.http.get("/orders/assign/?a=b")
    controls.http.head("/order/acquire")
    recorded = [
        (entry["method"], entry["target"], entry["operation"], entry["status"]) for entry in controls.requests()
    ]
    assert recorded == [("GET", "/orders/assign/?a=b", None, 404), ("HEAD", "/order/acquire", None, 405)]


def test_the_journal_can_be_filtered_and_emptied(controls: ControlledClient) -> None:
    """By operation, by status, by time, by all of them; emptied, it begins anew."""
    controls.assign("order", "executor")
    controls.assign("order", "executor")
    controls.acquire("executor")
    middle = rfc3339(datetime.now(UTC))
    controls.fault("acquire_order", "error")
    controls.acquire("executor")
    controls.cancel("order")

    def numbers(**filters: Any) -> list[int]:
        answer = controls.control("GET", "requests", params=filters).json()
        assert answer["count"] == len(answer["requests"])
        return [request["number"] for request in answer["requests"]]

    assert numbers() == [1, 2, 3, 4, 5]
    assert numbers(operation="acquire_order") == [3, 4]
    assert numbers(status=200) == [1, 3, 5]
    assert numbers(since=middle) == [4, 5]
    assert numbers(since=middle.replace("Z", "+00:00")) == [4, 5]
    assert len(controls.control("GET", f"requests?since={middle.replace('Z', '+00:00')}").json()["requests"]) == 2
    assert numbers(since="2000-01-01T00:00:00-05:00") == [1, 2, 3, 4, 5]
    assert numbers(operation="acquire_order", status=500, since=middle) == [4]
    assert numbers(status=418) == []
    controls.control("DELETE", "requests")
    assert controls.requests() == []
    assert len(controls.orders()) == 1


def test_the_journal_keeps_the_last_thousand(controls: ControlledClient) -> None:
    """Older requests make room, and how many they were is known."""
    for n in range(1_003):
        controls.acquire(f"executor-{n}")
    answer = controls.control("GET", "requests").json()
    assert (answer["count"], answer["forgotten"]) == (1_000, 3)
    assert (answer["requests"][0]["number"], answer["requests"][-1]["number"]) == (4, 1_003)
    assert answer["requests"][-1]["parameters"] == {"executor_id": "executor-1002"}


def test_the_stored_orders_can_be_read(controls: ControlledClient) -> None:
    """They are the rows, in the order of their assignment, filtered by what is asked for."""
    for n in range(4):
        controls.assign(f"order-{n}", f"executor-{n % 2}", f"zone é {n}")
    profile = controls.acquire("executor-1").json()["order_profile"]
    controls.cancel("order-2")
    rows = controls.orders()
    assert [(row["order_id"], row["execution_status"]) for row in rows] == [
        ("order-0", "completed"),
        ("order-1", "completed"),
        ("order-2", "cancelled"),
        ("order-3", "acquired"),
    ]
    assert list(rows[0]) == list(COLUMNS)
    assert rows[3] == profile
    assert rows[0]["acquire_time"] is None
    assert controls.orders(executor_id="executor-0") == [rows[0], rows[2]]
    assert controls.orders(executor_id="executor-0", status="cancelled") == [rows[2]]
    assert controls.orders(order_id="order-1") == [rows[1]]
    assert controls.orders(order_id="Order-1") == []
    answer = controls.control("GET", "orders", params={"limit": 2}).json()
    assert (answer["count"], answer["total"], answer["orders"]) == (2, 4, rows[2:])


def test_a_reset_waits_for_what_is_under_way(
    controls: ControlledClient, aside: Callable[..., "Future[httpx.Response]"]
) -> None:
    """A request that is delayed ends at once, in front of the reset: it is answered, and leaves nothing behind."""
    for when in ("before", "after"):
        controls.fault("assign_order", "delay", delay_ms=600_000, when=when)
        delayed = aside(controls.call, "assign_order")
        wait_until(lambda: [r["outcome"] for r in controls.requests()] == ["pending"], "the request is under way")
        (pending,) = controls.requests()
        assert (pending["status"], pending["answer"], pending["duration_ms"]) == (None, None, None)
        controls.reset()
        assert message(delayed.result(10)) == CREATED
        assert (controls.orders(), controls.requests()) == ([], [])


def test_a_client_that_gives_up_a_delayed_request(controls: ControlledClient, controlled: ServerProcess) -> None:
    """Its order is registered all the same when the delay is over, and the journal says that nobody read the answer."""
    controls.fault("assign_order", "delay", delay_ms=300)
    with controlled.connect() as connection:
        connection.sendall(b"PUT /orders/assign?order_id=1&executor_id=2&zone_id=3 HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: len(controls.requests()) == 1, "the request has arrived")
        assert controls.orders() == []
    wait_until(lambda: len(controls.orders()) == 1, "the order is registered")
    (recorded,) = controls.requests()
    assert (recorded["outcome"], recorded["status"], recorded["answer"]) == ("abandoned", 200, {"message": CREATED})


def test_what_arrives_during_a_reset_finds_an_empty_service(
    database: Path, aside: Callable[..., "Future[httpx.Response]"]
) -> None:
    """The reset comes between the requests before it and those after it, however long the first ones take."""
    with ServerProcess("--controls", database=database) as service, ControlledClient(service.url) as client:
        client.assign("earlier", "executor")
        with holding_writes(database):
            first = aside(client.assign, "first", "executor")
            wait_until(lambda: len(client.requests()) == 2, "the first one is under way")
            reset = aside(client.reset)
            wait_until(lambda: service.log().count("PUT") == 1, "only the earliest one is answered")
            time.sleep(0.1)
            second = aside(client.assign, "earlier", "executor")
            time.sleep(0.1)
            assert not any(call.done() for call in (first, reset, second))
        assert message(first.result(10)) == CREATED
        reset.result(10)
        assert message(second.result(10)) == CREATED
        assert [row["order_id"] for row in client.orders()] == ["earlier"]
        assert [entry["number"] for entry in client.requests()] == [1]


@contextmanager
def holding_writes(database: Path) -> Iterator[None]:
    """Keep everybody else from writing to an SQLite file."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.rollback()


def test_a_reset_waits_for_every_request(contract: Contract) -> None:
    """Of several that are under way, the reset waits for the last one, also if another one ends in an error."""
    request = Request("GET", "/order/acquire", "executor_id=1", HTTPHeaders(), b"", lambda: False)

    async def scenario() -> None:
        orders = Orders(DatabaseURL.parse("sqlite:///:memory:"))
        controls = Controls(contract, orders)
        loop = asyncio.get_running_loop()
        replies: list[asyncio.Future[Response]] = [loop.create_future() for _ in range(3)]
        waiting = iter(replies)
        handler = controls.around(lambda request: next(waiting), ())
        answers = [asyncio.ensure_future(handler(request)) for _ in replies]
        await turns()
        reset = asyncio.create_task(controls.reset())
        outcomes: list[Response | Exception] = [CANNOT_TELL, ZeroDivisionError(), CANNOT_TELL]
        for reply, outcome in zip(replies, outcomes, strict=True):
            await turns()
            assert not reset.done()
            if isinstance(outcome, Response):
                reply.set_result(outcome)
            else:
                reply.set_exception(outcome)
        await reset
        assert controls.requests() == []
        for answer in answers:
            with suppress(ZeroDivisionError):
                assert await answer is CANNOT_TELL
        await orders.close()

    async def turns() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    asyncio.run(scenario())


def test_a_failed_reset_says_so_and_holds_nobody_up(database: Path) -> None:
    """A reset that cannot delete the orders is a 500; requests are served on, and the next reset works."""
    with ServerProcess("--controls", database=database) as service, Client(service.url) as client:
        client.assign("order", "executor")
        execute(database, "CREATE TRIGGER fault BEFORE DELETE ON assigned_order BEGIN SELECT RAISE(ABORT, 'x'); END")
        assert client.http.post("/_controls/reset").status_code == 500
        assert message(client.acquire("executor")) == ACQUIRED
        execute(database, "DROP TRIGGER fault")
        assert client.http.post("/_controls/reset").status_code == 200
        assert message(client.acquire("executor")) == NO_ORDERS


def test_a_real_error_is_in_the_journal(database: Path) -> None:
    """An internal error is recorded as the 500 that it was answered with, whatever fault the request had."""
    with ServerProcess("--controls", database=database) as service, ControlledClient(service.url) as client:
        execute(database, "ALTER TABLE assigned_order RENAME TO hidden")
        client.fault("acquire_order", "delay", delay_ms=1)
        assert client.acquire("executor").status_code == 500
        (recorded,) = client.requests()
        assert (recorded["status"], recorded["answer"]) == (500, {"message": "Unknown error"})
        assert recorded["outcome"] == "answered"


def test_a_stop_ends_the_delays(database: Path, aside: Callable[..., "Future[httpx.Response]"]) -> None:
    """SIGTERM does not wait for a delay: the request is answered, and its order kept."""
    with ServerProcess("--controls", database=database) as service, ControlledClient(service.url) as client:
        client.fault("assign_order", "delay", delay_ms=600_000)
        delayed = aside(client.call, "assign_order")
        wait_until(lambda: len(client.requests()) == 1, "the request is under way")
        assert service.stop() == 0, service.log()
        assert message(delayed.result(10)) == CREATED
    assert execute(database, "SELECT order_id FROM assigned_order") == [("order",)]


@pytest.mark.parametrize("in_memory", [True, False])
def test_the_log_warns_of_resets_where_orders_are_kept(database: Path, in_memory: bool) -> None:
    """Whoever starts the controls on a file is told that a reset empties it."""
    options = ["--controls", "--log-level", "warning"]
    with ServerProcess(*options, database="sqlite:///:memory:" if in_memory else database) as service:
        service.stop()
        warned = "the test controls are on: a reset deletes all orders of the database" in service.log()
        assert warned is not in_memory, service.log()


def test_a_dropped_request_is_in_the_log(database: Path) -> None:
    """The log's line of a request without an answer says `dropped` in place of a status."""
    with ServerProcess("--controls", database=database) as service, ControlledClient(service.url) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            client.call("acquire_order", {"Prefer": "drop"})
        service.stop()
        assert "GET /order/acquire?executor_id=executor dropped " in service.log()


def test_a_pipelined_request_after_a_drop_is_not_answered(
    controlled: ServerProcess, controls: ControlledClient
) -> None:
    """The connection of a dropped request is closed, and what came behind it is not even looked at."""
    controls.fault("cancel_order", "drop")
    request = b"POST /order/cancel?order_id=1 HTTP/1.1\r\nHost: x\r\n\r\n"
    with controlled.connect() as connection:
        connection.sendall(request * 2)
        received = receive_all(connection)
    assert received == b""
    assert [(request["outcome"], request["operation"]) for request in controls.requests()] == [
        ("dropped", "cancel_order")
    ]


def receive_all(connection: socket.socket) -> bytes:
    """Return what comes on a connection until it ends."""
    received = b""
    try:
        while data := connection.recv(1000):
            received += data
    except ConnectionResetError:
        pass  # The server had not read the second request when it closed.
    return received


@pytest.mark.parametrize("path", ["reset", "faults", "requests", "orders", "openapi.json", "openapi.yaml"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_without_the_option_there_are_no_controls(client: Client, method: str, path: str) -> None:
    """Their paths are as unknown as any other, and `Prefer` means nothing."""
    response = client.http.request(method, f"/_controls/{path}")
    assert (response.status_code, response.json()) == (404, {"message": "Not found"})
    response = client.http.get("/order/acquire", params={"executor_id": "x"}, headers={"Prefer": "code=500, wait=5"})
    assert message(response) == NO_ORDERS and "preference-applied" not in response.headers


def test_pages_of_other_origins_are_refused(controls: ControlledClient, controlled: ServerProcess) -> None:
    """A browser sends any page's POST, so the controls look where it comes from; the operations do not."""
    controls.assign("order", "executor")
    rebound = {"Host": "rebound.example", "Origin": "http://rebound.example"}
    assert controls.control("POST", "reset", headers=rebound).status_code == 403
    for origin in ("http://localhost:3000", "https://example.com", "null", controlled.url.replace("http", "https")):
        response = controls.control("POST", "reset", headers={"Origin": origin})
        assert response.status_code == 403, origin
        if origin == "null":
            assert message(response) == "Pages without an origin may not use the controls"
        else:
            expected = f"Pages of {origin} may not use the controls; --cors-origin {origin} allows it"
            assert message(response) == expected
        for method, path in (("GET", "orders"), ("GET", "requests"), ("DELETE", "faults"), ("POST", "faults")):
            assert controls.control(method, path, headers={"Origin": origin}).status_code == 403, (method, path)
        assert controls.call("acquire_order", {"Origin": origin}).status_code == 200
    assert len(controls.orders()) == 1
    assert controls.control("POST", "reset", headers={"Origin": controlled.url}).status_code == 200
    assert controls.orders() == []
    for host in ("localhost:8080", "localhost", "[::1]:8080", "192.0.2.1"):
        headers = {"Host": host, "Origin": f"http://{host}"}
        assert controls.control("GET", "faults", headers=headers).status_code == 200


def test_a_browser_does_not_keep_a_connection(controls: ControlledClient) -> None:
    """It would repeat a dropped request by itself on a connection that it has kept; other clients keep theirs."""
    for agent, connection in (("Mozilla/5.0 (X11)", "close"), ("curl/8", None)):
        for path in ("/order/acquire?executor_id=1", "/docs", "/_controls/faults", "/nothing"):
            response = controls.http.get(path, headers={"User-Agent": agent})
            assert response.headers.get("connection") == connection, path


def test_the_definition_is_served(controls: ControlledClient) -> None:
    """Both forms of it are there."""
    as_yaml, as_json = controls.http.get("/_controls/openapi.yaml"), controls.http.get("/_controls/openapi.json")
    assert as_json.json() == yaml.safe_load(as_yaml.content) == document()
    assert as_yaml.headers["content-type"] == "application/yaml"


def test_definition_and_code_agree(contract: Contract) -> None:
    """Paths, methods, parameters, fields, their values and limits are the same in `controls.yaml` and in the code."""

    async def routes_of_controls() -> Mapping[str, Mapping[str, Handler]]:
        orders = Orders(DatabaseURL.parse("sqlite:///:memory:"))
        await orders.close()
        return Controls(contract, orders).routes

    routes = asyncio.run(routes_of_controls())
    paths = document()["paths"]
    assert {path: set(methods) for path, methods in routes.items()} == {
        path: {method.upper() for method in methods} for path, methods in paths.items()
    }
    schemas = document()["components"]["schemas"]
    assert schemas["OperationId"]["enum"] == [operation.operation_id for operation in contract.operations]
    assert schemas["ExecutionStatus"]["enum"] == list(ExecutionStatus)
    assert schemas["When"]["enum"] == list(When)
    assert schemas["Request"]["properties"]["outcome"]["enum"] == list(Outcome)
    assert list(schemas["Order"]["properties"]) == list(COLUMNS)
    assert list(schemas["Request"]["properties"]) == list(RecordedRequest.__dataclass_fields__)
    faults = {kind: schemas[f"{kind.title()}Fault"]["properties"] for kind in Kind}
    for kind, fields in faults.items():
        assert fields["kind"]["const"] == kind
        known = [name for name in Fault.__dataclass_fields__ if name != "status" or kind is Kind.ERROR]
        assert list(fields) == known
    assert faults[Kind.ERROR]["status"]["enum"] == contract.operations[0].error_codes
    assert schemas["Count"]["maximum"] == controls_module.MAX_COUNT
    assert schemas["DelayMs"]["maximum"] == schemas["LongDelayMs"]["maximum"] == controls_module.MAX_DELAY_MS
    assert paths["/_controls/orders"]["get"]["parameters"][3]["schema"]["maximum"] == controls_module.MAX_ORDERS


def test_every_example_of_the_definition_is_valid() -> None:
    """Each example of a body fits its schema."""
    count = 0

    def visit(node: Any) -> None:
        nonlocal count
        if isinstance(node, dict):
            examples = [node["example"]] if "example" in node else []
            examples += [example["value"] for example in node.get("examples", {}).values()]
            for example in examples:
                assert not problems(example, node["schema"]), f"{json.dumps(example)}"
                count += 1
            for value in node.values():
                visit(value)
        elif isinstance(node, list):
            for value in node:
                visit(value)

    visit(document()["paths"])
    visit(document()["components"]["responses"])
    assert count == 12


def test_the_answers_of_the_operations_are_the_same(controls: ControlledClient, new_id: str) -> None:
    """With the controls on, an order's way is answered as without them."""
    assert message(controls.assign(new_id, new_id)) == CREATED
    assert message(controls.acquire(new_id)) == ACQUIRED
    assert message(controls.cancel(new_id)) == CANCELED
    assert message(controls.cancel(new_id)) == not_active(new_id)


def test_many_clients_reset_and_fail_at_once(
    controls: ControlledClient, aside: Callable[..., "Future[httpx.Response]"]
) -> None:
    """Resets, faults and requests that meet leave no request hanging and no 500 that was not asked for."""
    stop = threading.Event()

    def keep_resetting() -> None:
        while not stop.is_set():
            controls.reset()
            controls.fault("acquire_order", "delay", delay_ms=600_000, when="after")

    resetting = [aside(keep_resetting) for _ in range(2)]
    try:
        for n in range(60):
            calls = [aside(controls.assign, f"order-{n}-{m}", f"executor-{m}") for m in range(3)]
            calls += [aside(controls.acquire, f"executor-{m}") for m in range(3)]
            assert {call.result(20).status_code for call in calls} == {200}
    finally:
        stop.set()
        for thread in resetting:
            thread.result(20)
