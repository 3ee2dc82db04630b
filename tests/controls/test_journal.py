"""The journal: which requests it has, and what it says about them."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tornado.httputil import HTTPHeaders

from harness.client import CREATED
from harness.server import ServerProcess, execute, wait_until
from orders.controls.journal import MAX_JOURNAL_BYTES, Journal
from orders.http.exchange import Request
from orders.storage.models import rfc3339
from tests.controls.client import ControlledClient


def test_a_recorded_request_is_complete(controls: ControlledClient) -> None:
    """It has the request as the client sent it, and the answer as the client received it."""
    before = rfc3339(datetime.now(UTC))
    response = controls.http.put(
        "/orders/assign?order_id=a+b&executor_id=%C3%A9&zone_id=1&zone_id=2&x=%FF&y",
        headers={"X-Request-Id": "42"},
        content="ignored é",
    )
    (recorded,) = controls.requests()
    assert before <= recorded.pop("time") <= rfc3339(datetime.now(UTC))
    assert recorded.pop("duration_ms") > 0
    headers = recorded.pop("headers")
    assert (headers["x-request-id"], headers["content-length"]) == ("42", "10")
    assert recorded == {
        "number": 1,
        "operation": "assign_order",
        "method": "PUT",
        "target": "/orders/assign?order_id=a+b&executor_id=%C3%A9&zone_id=1&zone_id=2&x=%FF&y",
        "parameters": {"order_id": "a b", "executor_id": "é", "zone_id": "2", "x": "\ufffd", "y": ""},
        "body": "ignored é",
        "mistake": True,
        "fault": None,
        "outcome": "answered",
        "status": 400,
        "answer": {"message": "Invalid parameter zone_id: given more than once"},
    }
    assert response.json() == recorded["answer"]


def test_parameters_need_no_escapes(controlled_server: ServerProcess, controls: ControlledClient) -> None:
    """A query that has UTF-8 without `%` is decoded too."""
    with controlled_server.connect() as connection:
        connection.sendall("GET /order/acquire?executor_id=é HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert controls.requests()[0]["parameters"] == {"executor_id": "é"}


def test_long_texts_are_cut(controls: ControlledClient) -> None:
    """The journal has the first 1,000 characters of a text, and says how many it had."""
    long = "é" * 1_001
    controls.http.put("/orders/assign", content=long, params={"order_id": long, "zone_id": "z" * 1_000})
    (recorded,) = controls.requests()
    cut = "é" * 1_000 + "... (1001 characters)"
    assert (recorded["body"], recorded["parameters"]["order_id"]) == (cut, cut)
    assert recorded["parameters"]["zone_id"] == "z" * 1_000
    assert re.search(r"\.\.\. \(\d{4} characters\)$", recorded["target"]) and len(recorded["target"]) < 1_100, recorded


def test_credentials_are_masked(controls: ControlledClient) -> None:
    """The journal says that a request had credentials, and not which."""
    secrets = {"Authorization": "Bearer s3cret", "Proxy-Authorization": "s3cret", "Cookie": "a=s3cret; b=s3cret"}
    controls.http.get("/order/acquire", headers=secrets)
    (recorded,) = controls.requests()
    masked = {name: recorded["headers"][name] for name in ("authorization", "proxy-authorization", "cookie")}
    assert masked == {"authorization": "Bearer ***", "proxy-authorization": "***", "cookie": "***"}
    assert "s3cret" not in str(recorded)


def test_the_journal_has_a_bound_in_bytes() -> None:
    """Large requests leave fewer of them in the journal, which says how many it has forgotten."""
    journal = Journal()
    headers = HTTPHeaders({f"Name-{n}": "value" * 10 for n in range(1_000)})
    for _ in range(200):
        journal.add(Request("GET", "/", "", headers, b"", lambda: False), None)
    kept = journal.find()
    assert 10 < len(kept) < 100 and journal.forgotten == 200 - len(kept), f"{len(kept)} are kept"
    assert len(json.dumps([request.as_json() for request in kept])) < 2 * MAX_JOURNAL_BYTES


def test_the_journal_is_read_in_pages(controls: ControlledClient) -> None:
    """A reader asks for the requests after the last one that it has."""
    for n in range(5):
        controls.acquire(f"executor-{n}")
    assert [request["number"] for request in controls.requests(limit=2)] == [1, 2]
    assert [request["number"] for request in controls.requests(limit=2, after=2)] == [3, 4]
    assert [request["number"] for request in controls.requests(limit=2, after=4)] == [5]


def test_requests_of_no_operation_are_recorded(controls: ControlledClient) -> None:
    """Wrong paths and methods are in the journal. The documentation, `/health` and the controls are not."""
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
    """Operation, outcome, status and time are filters, alone or together. An emptied journal starts again."""
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
    assert (numbers(outcome="answered"), numbers(outcome="dropped")) == ([1, 2, 3, 4, 5], [])
    assert numbers(status=200) == [1, 3, 5]
    assert numbers(since=middle) == [4, 5]
    assert numbers(since=middle.replace("Z", "+00:00")) == [4, 5]
    assert numbers(since="2000-01-01T00:00:00-05:00") == [1, 2, 3, 4, 5]
    assert numbers(operation="acquire_order", status=500, since=middle) == [4]
    assert numbers(status=418) == []
    unescaped = controls.control("GET", f"requests?since={middle.replace('Z', '+00:00')}").json()
    assert unescaped["count"] == 2, "a `+` that is not escaped is a part of the time"
    controls.control("DELETE", "requests")
    assert controls.requests() == []
    assert len(controls.orders()) == 1


def test_mistakes_of_the_client_are_marked(controls: ControlledClient) -> None:
    """A request that is wrong itself is a mistake. A fault's error and *already exists* are none."""
    controls.fault("assign_order", "error", status=400)
    requests: list[tuple[bool, str, str, dict[str, str]]] = [
        (False, "PUT", "/orders/assign?order_id=1&executor_id=1&zone_id=1", {}),
        (False, "PUT", "/orders/assign?order_id=1&executor_id=1&zone_id=1", {}),
        (False, "PUT", "/orders/assign?order_id=1&executor_id=1&zone_id=1", {}),
        (False, "POST", "/order/cancel?order_id=2", {}),
        (False, "GET", "/order/acquire?executor_id=1", {"Prefer": "code=400"}),
        (True, "GET", "/order/acquire?executor_id=1", {"Prefer": "code=600"}),
        (True, "GET", "/order/acquire?executor_id=", {}),
        (True, "GET", "/order/acquire?executor_id=1%00", {}),
        (True, "POST", "/order/acquire?executor_id=1", {}),
        (True, "GET", "/order/acquire/?executor_id=1", {}),
        (True, "GET", "/order/acquire", {"Prefer": "code=500, when=after"}),
    ]
    for _, method, target, headers in requests:
        controls.http.request(method, target, headers=headers)
    found = [(entry["mistake"], entry["method"], entry["target"]) for entry in controls.requests()]
    assert found == [request[:3] for request in requests]


def test_the_journal_keeps_the_last_thousand(controls: ControlledClient) -> None:
    """Later requests take the place of earlier ones. The answer says how many those were."""
    for n in range(1_003):
        controls.acquire(f"executor-{n}")
    answer = controls.control("GET", "requests").json()
    assert (answer["count"], answer["forgotten"]) == (1_000, 3)
    assert (answer["requests"][0]["number"], answer["requests"][-1]["number"]) == (4, 1_003)
    assert answer["requests"][-1]["parameters"] == {"executor_id": "executor-1002"}


def test_a_request_whose_client_has_gone_is_abandoned(
    any_server: ServerProcess, any_controls: ControlledClient
) -> None:
    """The operation is run after the delay. The journal has the answer, and says that nobody read it."""
    controls = any_controls
    controls.fault("assign_order", "delay", delay_ms=300)
    with any_server.connect() as connection:
        connection.sendall(b"PUT /orders/assign?order_id=1&executor_id=2&zone_id=3 HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_until(lambda: len(controls.orders()) == 1, "the order is registered")
    wait_until(lambda: controls.requests()[0]["outcome"] != "pending", "the request has ended")
    (recorded,) = controls.requests()
    assert (recorded["outcome"], recorded["status"], recorded["answer"]) == ("abandoned", 200, {"message": CREATED})


def test_an_internal_error_is_recorded(database: Path) -> None:
    """It is in the journal as the 500 that answered it, even if the request had a fault."""
    with ServerProcess("--controls", database=database) as server, ControlledClient(server.url) as client:
        execute(database, "ALTER TABLE assigned_order RENAME TO hidden")
        client.fault("acquire_order", "delay", delay_ms=1)
        assert client.acquire("executor").status_code == 500
        (recorded,) = client.requests()
        assert (recorded["status"], recorded["answer"]) == (500, {"message": "Unknown error"})
        assert recorded["outcome"] == "answered"
