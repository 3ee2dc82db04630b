"""The reference server inside a test."""

import asyncio
import gc
import http.client
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest

from harness.client import ACQUIRED, ALREADY_EXISTS, CREATED, NO_ORDERS, Client, message
from harness.server import wait_until
from orders import testing
from orders.contract import Contract
from orders.openapi import DocumentError
from orders.storage import models
from orders.testing import CannotListen, ControlError, ReferenceServer


@pytest.fixture
def server() -> Iterator[ReferenceServer]:
    """A server for one test."""
    with ReferenceServer() as server:
        yield server


@pytest.fixture
def own_client(server: ReferenceServer) -> Iterator[Client]:
    """A client of that server."""
    with Client(server.url) as client:
        yield client


def test_it_is_the_whole_service(server: ReferenceServer, own_client: Client) -> None:
    """It answers the operations, the documentation and the controls, and its stored orders can be read."""
    assert message(own_client.assign("order", "executor")) == CREATED
    assert message(own_client.assign("order", "executor")) == ALREADY_EXISTS
    profile = own_client.acquire("executor").json()["order_profile"]
    assert server.orders() == [profile]
    assert own_client.http.get("/docs").status_code == 200
    assert own_client.http.get("/_controls/orders").json()["orders"] == [profile]


def test_each_server_has_orders_of_its_own() -> None:
    """Servers share nothing, at the same time or one after the other, whatever thread starts them."""

    def life(n: int) -> None:
        with ReferenceServer() as server, Client(server.url) as client:
            assert message(client.assign("order", f"executor-{n}")) == CREATED
            assert [order["executor_id"] for order in server.orders()] == [f"executor-{n}"]

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(life, range(32)))


def test_a_server_can_be_started_again() -> None:
    """A stop forgets everything and frees the port. The next start uses the same port."""
    server = ReferenceServer()
    urls = set()
    for _ in range(2):
        server.start()
        with pytest.raises(RuntimeError, match="running already"):
            server.start()
        with Client(server.url) as client:
            assert message(client.assign("order", "executor")) == CREATED
        urls.add(server.url)
        port = int(server.url.rpartition(":")[2])
        server.stop()
        server.stop()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
    assert len(urls) == 1


def test_a_stop_leaves_no_thread_waiting() -> None:
    """Threads that use the server while another one stops it get an answer or an error."""
    server = ReferenceServer()
    ended = []

    def use() -> None:
        try:
            while True:
                server.requests()
        except RuntimeError as error:
            ended.append(str(error))

    for _ in range(20):
        server.start()
        threads = [threading.Thread(target=use, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        server.stop()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
    assert ended == ["the server is not running"] * 80


@pytest.mark.parametrize(
    "use",
    [
        lambda server: server.url,
        lambda server: server.reset(),
        lambda server: server.fail_next("assign_order"),
        lambda server: server.requests(),
    ],
)
def test_a_server_that_is_not_running_says_so(use: Callable[[ReferenceServer], object]) -> None:
    """Before the start and after the stop, its methods raise RuntimeError."""
    server = ReferenceServer()
    with pytest.raises(RuntimeError, match="the server is not running"):
        use(server)
    with server:
        use(server)
    with pytest.raises(RuntimeError, match="the server is not running"):
        use(server)


# Tornado leaves a socket that it could not bind to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_taken_port_is_named() -> None:
    """A server that cannot listen raises an error with the reason, and leaves no thread."""
    threads = threading.active_count()
    with ReferenceServer() as first:
        port = int(first.url.rpartition(":")[2])
        second = ReferenceServer(port=port)
        with pytest.raises(CannotListen, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            second.start()
        gc.collect()
        second.stop()
    assert threading.active_count() == threads


def test_a_stop_answers_requests_on_their_way() -> None:
    """A request that was sent before the stop gets its answer."""
    for _ in range(20):
        with ReferenceServer() as server:
            connection = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))
            connection.sendall(b"GET /order/acquire?executor_id=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        with connection:
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_a_stop_ends_a_delay(server: ReferenceServer, own_client: Client) -> None:
    """When the server stops, a request with a delay of ten minutes is answered at once."""
    server.fail_next("acquire_order", "delay", delay_ms=600_000)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(own_client.acquire, "executor")
        wait_until(lambda: len(server.requests()) == 1, "the request is in flight")
        server.stop()
        assert message(call.result(60)) == NO_ORDERS


def test_a_failed_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that fails half-way raises the error and frees the port. The next start works."""

    def broken(path: Path) -> Contract:
        raise DocumentError("broken")

    with ReferenceServer() as first:
        port = int(first.url.rpartition(":")[2])
    server = ReferenceServer(port=port)
    with monkeypatch.context() as patches:
        patches.setattr(testing, "load_contract", broken)
        with pytest.raises(DocumentError, match="broken"):
            server.start()
        with pytest.raises(RuntimeError, match="the server is not running"):
            server.requests()
    with server:
        assert server.url == f"http://127.0.0.1:{port}"


def test_a_cancelled_task_stops_its_server() -> None:
    """The server stops whenever a task in `async with` is cancelled."""

    async def life() -> None:
        async with ReferenceServer():
            await asyncio.sleep(600)

    async def scenario() -> None:
        for turns in range(4):
            task = asyncio.create_task(life())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(scenario())
    assert not server_threads()


def server_threads() -> list[threading.Thread]:
    """Return the threads in which servers run."""
    return [thread for thread in threading.enumerate() if thread.name == "orders-reference-server"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_no_server(server: ReferenceServer) -> None:
    """There, the methods raise RuntimeError: the server's thread is in the other process, which goes on serving."""
    child = os.fork()
    if not child:
        try:
            server.requests()
        except RuntimeError as error:
            server.stop()
            os._exit(0 if str(error) == "the server is not running" else 1)
        os._exit(2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert server.requests() == []


def test_an_error_in_the_block_stops_the_server() -> None:
    """The error leaves the `with` block, and the server is gone."""
    server = ReferenceServer()
    with pytest.raises(ZeroDivisionError), server:
        raise ZeroDivisionError
    assert not server_threads()


def test_coroutines_can_use_it() -> None:
    """In `async with`, neither the server nor the client in the same process blocks the other."""

    async def scenario() -> None:
        async with ReferenceServer() as server, httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
            server.fail_next("acquire_order", "delay", delay_ms=50, count=3)
            calls = [client.get("/order/acquire", params={"executor_id": f"executor-{n}"}) for n in range(3)]
            assert {message(response) for response in await asyncio.gather(*calls)} == {NO_ORDERS}
            assert len(server.requests()) == 3
            server.reset()
            assert server.requests() == []

    asyncio.run(scenario())


def test_the_controls_are_methods(server: ReferenceServer, own_client: Client) -> None:
    """Faults, journal and orders are available without HTTP, with the same rules."""
    fault = server.fail_next("acquire_order", count=2)
    assert (fault.kind, fault.status, fault.when, fault.count) == ("error", 500, "before", 2)
    server.fail_next("acquire_order", status=400, delay_ms=1)
    server.fail_next("acquire_order", status=429, body="empty", retry_after=3)
    assert [fault.count for fault in server.faults()] == [2, 1, 1]
    assert [own_client.acquire("executor").status_code for _ in range(3)] == [500, 500, 400]
    limited = own_client.acquire("executor")
    assert (limited.status_code, limited.content, limited.headers["retry-after"]) == (429, b"", "3")
    assert own_client.acquire("executor").status_code == 200
    server.fail_next("*", order_id="order", status=502)
    assert [own_client.cancel(order_id).status_code for order_id in ("other", "order")] == [200, 502]
    dropped = server.fail_next("assign_order", "drop", when="after")
    with pytest.raises(httpx.RemoteProtocolError):
        own_client.assign("order", "executor")
    middle = datetime.now(UTC)
    assert message(own_client.assign("order", "executor")) == ALREADY_EXISTS
    assert message(own_client.acquire("executor")) == ACQUIRED
    assert [request.outcome for request in server.requests("assign_order")] == ["dropped", "answered"]
    assert [request.fault for request in server.requests(outcome="dropped")] == [dropped]
    assert [request.operation for request in server.requests(since=middle)] == ["assign_order", "acquire_order"]
    last = server.requests()[-1]
    assert server.requests(since=last.time) == [last]
    assert [request.parameters for request in server.requests("assign_order", status=400)] == [
        {"order_id": "order", "executor_id": "executor", "zone_id": "zone"}
    ]
    assert [order["execution_status"] for order in server.orders(order_id="order")] == ["acquired"]
    assert server.orders(executor_id="other") == server.orders(status="completed") == []
    server.fail_next("cancel_order", "drop")
    server.clear_faults()
    server.clear_requests()
    assert (server.faults(), server.requests(), len(server.orders())) == ([], [], 1)
    server.reset()
    assert server.orders() == []
    moment = datetime(2026, 1, 31, 12, tzinfo=UTC)
    added = server.add_orders(
        {"order_id": "1", "executor_id": "1", "zone_id": "1", "execution_status": "completed", "assign_time": moment},
        {"order_id": "2", "executor_id": "1", "zone_id": "1"},
    )
    assert server.orders() == added
    assert [(order["execution_status"], order["acquire_time"]) for order in added] == [
        ("completed", None),
        ("assigned", None),
    ]
    assert added[0]["assign_time"] == "2026-01-31T12:00:00.000000Z"


@pytest.mark.parametrize(
    ("use", "complaint"),
    [
        (lambda server: server.fail_next("assign"), "operation must be one of assign_order, acquire_order"),
        (
            lambda server: server.fail_next("assign_order", "explode"),
            "kind must be one of error, delay, drop, reset, truncate",
        ),
        (lambda server: server.fail_next("assign_order", "delay"), "delay_ms is missing"),
        (lambda server: server.fail_next("assign_order", "drop", status=500), "unknown field 'status'"),
        (
            lambda server: server.fail_next("assign_order", "delay", delay_ms=0),
            "delay_ms must be a whole number from 1",
        ),
        (lambda server: server.requests(since=5), "since must be a time with its offset"),
        (lambda server: server.orders(order_id=5), "order_id must be a string, not 5"),
        (lambda server: server.requests(outcome="lost"), "outcome must be one of pending, answered, dropped"),
        (lambda server: server.requests(status=9999), "status must be a whole number from 100 to 599"),
        (lambda server: server.add_orders(), "orders must be a list of 1 to 1000"),
        (lambda server: server.add_orders({"order_id": "1", "executor_id": "1"}), "zone_id is missing"),
        (lambda server: server.fail_next("assign_order", count=-1), "count must be a whole number from 1"),
        (lambda server: server.requests("assign"), "operation must be one of"),
        (lambda server: server.requests(since=datetime(2026, 1, 31)), "since must be a time with its offset"),
        (lambda server: server.orders(status="done"), "status must be one of assigned, acquired"),
    ],
)
def test_a_wrong_value_is_an_error(server: ReferenceServer, use: Callable[[Any], object], complaint: str) -> None:
    """The method raises a ValueError that says what is allowed."""
    with pytest.raises(ControlError, match=complaint) as caught:
        use(server)
    assert isinstance(caught.value, ValueError)


def test_a_recorded_request_does_not_change(server: ReferenceServer, own_client: Client) -> None:
    """The result of `requests` does not change while the requests in it go on."""
    server.fail_next("acquire_order", "delay", delay_ms=600_000)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(own_client.acquire, "executor")
        wait_until(lambda: len(server.requests()) == 1, "the request is in flight")
        (recorded,) = server.requests()
        assert (recorded.outcome, recorded.status) == ("pending", None)
        server.reset()
        assert call.result(60).status_code == 200
    assert (recorded.outcome, recorded.status) == ("pending", None)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"port": -1}, "the port must be from 0 to 65535, not -1"),
        ({"port": 65536}, "the port must be from 0 to 65535, not 65536"),
        ({"cors_origins": ["http://localhost:3000/"]}, "is not an origin like http://localhost:3000"),
        ({"cors_origins": ["http://localhost:80"]}, "browsers write it: they leave :80 out"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], complaint: str) -> None:
    """The constructor raises ValueError, before anything starts."""
    with pytest.raises(ValueError, match=complaint):
        ReferenceServer(**options)


def test_pages_of_other_origins_can_be_allowed() -> None:
    """`cors_origins` has the effect of the option `--cors-origin`."""
    with ReferenceServer(cors_origins=["http://localhost:3000"]) as server, Client(server.url) as client:
        response = client.http.get("/order/acquire", headers={"Origin": "http://localhost:3000"})
        assert response.headers["access-control-allow-origin"] == "http://localhost:3000"


def test_pages_of_other_origins_see_half_an_answer() -> None:
    """A truncated answer has the headers that let a page read it, so that the page finds out that it ends early."""
    with ReferenceServer(cors_origins=["http://localhost:3000"]) as server, Client(server.url) as client:
        server.fail_next("acquire_order", "truncate")
        with client.http.stream("GET", "/order/acquire", headers={"Origin": "http://localhost:3000"}) as response:
            assert response.headers["access-control-allow-origin"] == "http://localhost:3000"


def test_nothing_accumulates(server: ReferenceServer, own_client: Client) -> None:
    """After dozens of resets and thousands of faults there are no more objects, files and threads than before."""

    kinds = get_args(testing.Kind)

    def round_of_faults() -> None:
        for kind in kinds:
            server.fail_next("acquire_order", kind, delay_ms=1 if kind == "delay" else 0, count=3)
        for _ in range(3 * len(kinds)):
            with suppress(httpx.RemoteProtocolError, httpx.ReadError):
                own_client.acquire("executor")
        own_client.assign("order", "executor")
        server.reset()

    def size() -> tuple[int, int, int]:
        gc.collect()
        return len(gc.get_objects()), len(os.listdir("/proc/self/fd")), threading.active_count()

    for _ in range(20):
        round_of_faults()
    before = size()
    for _ in range(50):
        round_of_faults()
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
    for n in range(300):
        server.fail_next("cancel_order", "error", when="after" if n % 2 else "before", count=4)
        server.fail_next("cancel_order", "drop", when="before" if n % 2 else "after")
        for expected in (500, 500, 500, 500, None):
            connection.request("POST", "/order/cancel?order_id=1")
            try:
                with connection.getresponse() as response:
                    assert (response.status, response.read()) == (expected, b'{"message": "Unknown error"}')
            except http.client.RemoteDisconnected:
                assert expected is None
    connection.close()
    assert server.faults() == []
    server.reset()
    after = size()
    assert after[0] <= before[0] + 100, f"{before[0]} objects became {after[0]}"
    assert after[1:] == before[1:], f"{before} became {after}"


def test_the_types_have_every_value(contract: Contract) -> None:
    """A type checker accepts the operations, statuses and columns that exist, and no others."""
    assert list(get_args(testing.OperationId)) == [operation.operation_id for operation in contract.operations]
    assert list(get_args(testing.OutcomeName)) == list(testing.Outcome)
    assert list(get_args(testing.ExecutionStatus)) == list(models.ExecutionStatus)
    assert tuple(testing.StoredOrder.__annotations__) == models.COLUMNS
