"""Keeps a server busy with clients and records what it answers. Each client has its own connection."""

import http.client
import json
import threading
import time
from collections.abc import Iterable
from datetime import datetime
from urllib.parse import urlencode

from harness.server import execute, wait_until
from orders.storage.models import rfc3339


class Load:
    """Threads that assign, acquire and cancel orders until `stop` is called or the server is gone.

    `created` maps orders to their executors, `acquired` maps orders to response bodies, and `cancelled` is a set of
    orders. `errors` describes the responses other than 200. `lost` maps descriptions of requests without a response to
    the times when they were sent (`time.monotonic`).
    """

    def __init__(self, address: tuple[str, int], prefix: str, *, clients: int = 8, keep_alive: bool = True) -> None:
        """Start the clients. Without `keep_alive`, each request opens a new connection."""
        self.created: dict[str, str] = {}
        self.cancelled: set[str] = set()
        self.acquired: dict[str, bytes] = {}
        self.errors: list[str] = []
        self.lost: dict[str, float] = {}
        self._address = address
        self._prefix = prefix
        self._headers = {} if keep_alive else {"Connection": "close"}
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop the clients and wait for them."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a client is still waiting for an answer"

    def _run(self, client: int) -> None:
        executor = f"{self._prefix}-executor-{client}"
        connection: http.client.HTTPConnection | None = None
        number = 0
        while not self._stopping.is_set():
            order = f"{self._prefix}-order-{client}-{number}"
            number += 1
            sent_at: float | None = None
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(*self._address, timeout=60)
                    connection.connect()
                for method, path, parameters in [
                    ("PUT", "/orders/assign", {"order_id": order, "executor_id": executor, "zone_id": "zone"}),
                    ("GET", "/order/acquire", {"executor_id": executor}),
                    *([("POST", "/order/cancel", {"order_id": order})] if number % 3 == 0 else []),
                ]:
                    sent_at = None
                    if connection.sock is None:
                        connection.connect()
                    sent_at = time.monotonic()
                    connection.request(method, f"{path}?{urlencode(parameters)}", headers=self._headers)
                    sent_at = time.monotonic()
                    response = connection.getresponse()
                    body = response.read()
                    if response.status != 200:
                        self.errors.append(f"{method} {path} {parameters}: {response.status} {body!r}")
                        break
                    if method == "PUT":
                        self.created[order] = executor
                    elif method == "GET":
                        self.acquired[order] = body
                        assert json.loads(body)["order_profile"]["order_id"] == order, body
                    else:
                        self.cancelled.add(order)
            except (OSError, http.client.HTTPException) as error:
                if connection is not None:
                    connection.close()
                # If nothing was sent, the server is gone and refuses connections. Otherwise a request was cut off.
                if sent_at is not None:
                    self.lost[f"{order}: {error!r}"] = sent_at
                return
        if connection is not None:
            connection.close()


def wait_for_assigns(load: Load, assigns: int) -> None:
    """Wait until so many more assigns of a load have been answered 200."""
    before = len(load.created)
    wait_until(lambda: len(load.created) >= before + assigns, f"{assigns} more assigns are answered")


def assert_nothing_is_lost(database: str, loads: Iterable[Load]) -> None:
    """Check that a database has every change whose request was answered 200 (D13)."""
    query = "SELECT order_id, executor_id, execution_status, acquire_time FROM assigned_order"
    rows = {order: row for order, *row in execute(database, query)}
    for load in loads:
        for order, executor in load.created.items():
            assert order in rows, f"the assign of {order} was answered 200, but the order is not stored"
            assert rows[order][0] == executor
        for order in load.cancelled:
            assert rows[order][1] == "cancelled", f"the cancel of {order} was answered 200: {rows[order]}"
        for order, body in load.acquired.items():
            acquire_time = rows[order][2]
            stored = rfc3339(acquire_time) if isinstance(acquire_time, datetime) else acquire_time
            answered = json.loads(body)["order_profile"]["acquire_time"]
            assert stored == answered, f"{order} was acquired at {answered}, but {stored} is stored"
