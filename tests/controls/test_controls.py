"""Reset, the stored orders, and the operations while the controls are on."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from tornado.httputil import HTTPHeaders

from harness.client import ACQUIRED, CANCELED, CREATED, NO_ORDERS, Client, message, not_active
from harness.server import ServerProcess, execute, wait_until
from orders.contract import Contract
from orders.controls.middleware import Controls
from orders.http.app import App
from orders.http.exchange import Request
from orders.http.responses import Response, message_response
from orders.lifecycle import Orders
from orders.storage.database import DatabaseURL
from orders.storage.models import COLUMNS
from tests.controls.client import IN_MEMORY, ControlledClient

CANNOT_TELL = message_response(500, "Unknown error")


def test_the_operations_answer_as_without_the_controls(any_controls: ControlledClient, new_id: str) -> None:
    """An order is assigned, acquired and cancelled with the usual answers."""
    assert message(any_controls.assign(new_id, new_id)) == CREATED
    assert message(any_controls.acquire(new_id)) == ACQUIRED
    assert message(any_controls.cancel(new_id)) == CANCELED
    assert message(any_controls.cancel(new_id)) == not_active(new_id)


def test_a_browser_does_not_keep_a_connection(controls: ControlledClient) -> None:
    """On a connection that it has kept, it would repeat a dropped request by itself. Other clients keep theirs."""
    for agent, connection in (("Mozilla/5.0 (X11)", "close"), ("curl/8", None)):
        for path in ("/order/acquire?executor_id=1", "/docs", "/_controls/faults", "/nothing"):
            response = controls.http.get(path, headers={"User-Agent": agent})
            assert response.headers.get("connection") == connection, path


def test_the_stored_orders_can_be_read(any_controls: ControlledClient) -> None:
    """They are the rows that match the filters, in the order in which they were assigned."""
    controls = any_controls
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


def test_a_reset_forgets_everything(any_controls: ControlledClient) -> None:
    """After a reset there are no orders and no faults, and the journal is empty."""
    controls = any_controls
    controls.assign("order", "executor")
    controls.acquire("executor")
    controls.fault("cancel_order", "drop")
    assert controls.orders() and controls.faults() and controls.requests()
    controls.reset()
    assert (controls.orders(), controls.faults(), controls.requests()) == ([], [], [])
    assert message(controls.assign("order", "executor")) == CREATED
    assert controls.requests()[0]["number"] == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_reset_ends_delays(
    any_controls: ControlledClient, in_thread: Callable[..., "Future[httpx.Response]"], when: str
) -> None:
    """A delayed request ends at once and before the reset: it is answered, and leaves no order."""
    controls = any_controls
    controls.fault("assign_order", "delay", delay_ms=600_000, when=when)
    delayed = in_thread(controls.call, "assign_order")
    wait_until(lambda: [r["outcome"] for r in controls.requests()] == ["pending"], "the request is in flight")
    (pending,) = controls.requests()
    assert (pending["status"], pending["answer"], pending["duration_ms"]) == (None, None, None)
    wait_until(lambda: len(controls.orders()) == (when == "after"), "the order is stored before the delay or after it")
    controls.reset()
    assert message(delayed.result(60)) == CREATED
    assert (controls.orders(), controls.requests()) == ([], [])


def test_a_request_during_a_reset_finds_an_empty_service(
    database: Path, in_thread: Callable[..., "Future[httpx.Response]"]
) -> None:
    """The reset waits for earlier requests, and later requests wait for the reset."""
    with ServerProcess("--controls", database=database) as server, ControlledClient(server.url) as client:
        client.assign("earlier", "executor")
        client.fault("acquire_order", "delay", delay_ms=600_000)
        with holding_writes(database):
            first, delayed = in_thread(client.assign, "first", "executor"), in_thread(client.acquire, "other")
            wait_until(lambda: len(client.requests()) == 3, "both are in flight")
            reset = in_thread(client.reset)
            # The reset has begun when it has ended the delay.
            assert message(delayed.result(60)) == NO_ORDERS
            second = in_thread(client.assign, "earlier", "executor")
            time.sleep(0.1)
            assert not any(call.done() for call in (first, reset, second))
        assert message(first.result(60)) == CREATED
        reset.result(60)
        assert message(second.result(60)) == CREATED
        assert [row["order_id"] for row in client.orders()] == ["earlier"]
        assert [entry["number"] for entry in client.requests()] == [1]


@contextmanager
def holding_writes(database: Path) -> Iterator[None]:
    """Prevent all other writes to an SQLite file."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.rollback()


def test_a_reset_waits_for_every_request(contract: Contract) -> None:
    """It waits for the last one, even if another one ends with an error."""
    request = Request("GET", "/order/acquire", "executor_id=1", HTTPHeaders(), b"", lambda: False)

    async def scenario() -> None:
        orders = Orders(DatabaseURL.parse(IN_MEMORY))
        loop = asyncio.get_running_loop()
        replies: list[asyncio.Future[Response]] = [loop.create_future() for _ in range(3)]
        waiting = iter(replies)
        app = App(contract, orders)
        app.handler = lambda request: next(waiting)
        controls = Controls(app, contract, orders)
        answers = [asyncio.ensure_future(controls.handle(request)) for _ in replies]
        await turns()
        reset = asyncio.create_task(controls.reset())
        results: list[Response | Exception] = [CANNOT_TELL, ZeroDivisionError(), CANNOT_TELL]
        for reply, result in zip(replies, results, strict=True):
            await turns()
            assert not reset.done()
            if isinstance(result, Response):
                reply.set_result(result)
            else:
                reply.set_exception(result)
        await reset
        assert controls.journal.find() == []
        for answer in answers:
            with suppress(ZeroDivisionError):
                assert await answer is CANNOT_TELL
        await orders.close()

    async def turns() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    asyncio.run(scenario())


def test_a_failed_reset_holds_nobody_up(database: Path) -> None:
    """A reset that cannot delete the orders is a 500. Requests are served after it, and the next reset works."""
    with ServerProcess("--controls", database=database) as server, Client(server.url) as client:
        client.assign("order", "executor")
        execute(database, "CREATE TRIGGER fault BEFORE DELETE ON assigned_order BEGIN SELECT RAISE(ABORT, 'x'); END")
        assert client.http.post("/_controls/reset").status_code == 500
        assert message(client.acquire("executor")) == ACQUIRED
        execute(database, "DROP TRIGGER fault")
        assert client.http.post("/_controls/reset").status_code == 200
        assert message(client.acquire("executor")) == NO_ORDERS


def test_many_clients_reset_and_fail_at_once(
    any_controls: ControlledClient, in_thread: Callable[..., "Future[httpx.Response]"]
) -> None:
    """Simultaneous resets, faults and requests leave no request without an answer, and cause no error."""
    controls = any_controls
    stop = threading.Event()

    def keep_resetting() -> None:
        while not stop.is_set():
            controls.reset()
            controls.fault("acquire_order", "delay", delay_ms=600_000, when="after")

    resetting = [in_thread(keep_resetting) for _ in range(2)]
    try:
        for n in range(60):
            calls = [in_thread(controls.assign, f"order-{n}-{m}", f"executor-{m}") for m in range(3)]
            calls += [in_thread(controls.acquire, f"executor-{m}") for m in range(3)]
            assert {call.result(60).status_code for call in calls} == {200}
    finally:
        stop.set()
        for thread in resetting:
            thread.result(60)


def test_a_stop_ends_delays(database: Path, in_thread: Callable[..., "Future[httpx.Response]"]) -> None:
    """SIGTERM does not wait for a delay: the request is answered, and its order is stored."""
    with ServerProcess("--controls", database=database) as server, ControlledClient(server.url) as client:
        client.fault("assign_order", "delay", delay_ms=600_000)
        delayed = in_thread(client.call, "assign_order")
        wait_until(lambda: len(client.requests()) == 1, "the request is in flight")
        assert server.stop() == 0, server.log()
        assert message(delayed.result(60)) == CREATED
    assert execute(database, "SELECT order_id FROM assigned_order") == [("order",)]


@pytest.mark.parametrize("in_memory", [True, False])
def test_the_log_warns_that_a_reset_deletes_orders(database: Path, in_memory: bool) -> None:
    """The warning comes at the start, if the orders are not in memory."""
    options = ["--controls", "--log-level", "warning"]
    with ServerProcess(*options, database=IN_MEMORY if in_memory else database) as server:
        server.stop()
        warned = "the test controls are on: a reset deletes all orders of the database" in server.log()
        assert warned is not in_memory, server.log()
