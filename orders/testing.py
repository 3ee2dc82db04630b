"""The reference server inside a test: `ReferenceServer`, a context manager.

    with ReferenceServer() as server:
        server.fail_next("assign_order", "drop", when="after")
        my_client(server.url).assign("order-1", "executor-1", "zone-1")
        assert [request.outcome for request in server.requests()] == ["dropped", "answered"]

With pytest, use the fixtures `orders_server` and `orders_url` (`pytest_orders`).
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Any, Literal, NotRequired, Self, TypedDict, TypeVar, cast

from orders.contract import contract_path, load_contract
from orders.controls.faults import Body, Fault, Kind, When
from orders.controls.journal import Outcome, RecordedRequest
from orders.controls.schemas import PARAMETERS, ControlError, check_parameters
from orders.http.cors import check_origin
from orders.server.serve import running
from orders.server.sockets import CannotListen, listen, url_of
from orders.settings import Settings
from orders.storage.database import DatabaseURL

__all__ = [
    "Body",
    "CannotListen",
    "ControlError",
    "ExecutionStatus",
    "Fault",
    "Kind",
    "NewOrder",
    "OperationId",
    "Outcome",
    "OutcomeName",
    "RecordedRequest",
    "ReferenceServer",
    "StoredOrder",
    "When",
]

T = TypeVar("T")

# Written out, so that a type checker finds a misspelt value.
OperationId = Literal["assign_order", "acquire_order", "cancel_order"]
OutcomeName = Literal["pending", "answered", "dropped", "reset", "truncated", "abandoned"]
ExecutionStatus = Literal["assigned", "acquired", "completed", "cancelled"]

IDLE_TIMEOUT_S = 60.0
QUIET_BEFORE_CLOSE_S = 0.02  # Clients are on the same host, so their requests arrive sooner.
MAX_ORDERS: int = PARAMETERS["list_orders"]["limit"]["maximum"]


class StoredOrder(TypedDict):
    """An order as it is stored (D6). The times are RFC 3339, in UTC."""

    assigned_order_id: str
    order_id: str
    executor_id: str
    zone_id: str
    execution_status: ExecutionStatus
    assign_time: str
    acquire_time: str | None


class NewOrder(TypedDict):
    """An order to store. `assigned_order_id` is made by the service."""

    order_id: str
    executor_id: str
    zone_id: str
    execution_status: NotRequired[ExecutionStatus]
    assign_time: NotRequired[datetime | str]
    acquire_time: NotRequired[datetime | str | None]


class ReferenceServer:
    """The whole service in a thread of this process, with its orders in memory and the test controls as methods.

    Use it with `with` or `async with`, or call `start` and `stop`. Any thread may call its methods. They take a few
    milliseconds at most, so a coroutine may call them too.
    """

    def __init__(self, *, port: int = 0, cors_origins: Sequence[str] = ()) -> None:
        """Prepare a server on 127.0.0.1 and `port`; 0 takes a free port. Web pages of `cors_origins` may call it.

        Raises ValueError if the port does not exist, or if an origin is not written as browsers write it.
        """
        if not 0 <= port <= 65535:
            raise ValueError(f"the port must be from 0 to 65535, not {port}")
        self._lock = threading.Lock()
        self._port = port
        self._settings = Settings(
            host="127.0.0.1",
            port=port,
            workers=1,
            database=DatabaseURL.parse("sqlite:///:memory:"),
            database_connections=2,
            idle_timeout=IDLE_TIMEOUT_S,
            access_log=False,
            log_level="info",
            cors_origins=tuple(map(check_origin, cors_origins)),
            controls=True,
            expose_controls=False,
        )
        self._url: str | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The URL of the server: `http://127.0.0.1:` and its port. Raises RuntimeError if it is not running."""
        if self._url is None:
            raise RuntimeError("the server is not running")
        return self._url

    def start(self) -> None:
        """Start the server. After a stop it uses the same port again, so that clients find it.

        Raises CannotListen if the port is taken, and RuntimeError if this server is already running.
        """
        with self._lock:
            if self._is_running():
                raise RuntimeError("the server is running already")
            listeners = listen("127.0.0.1", self._port)
            ready: Future[None] = Future()

            def work() -> None:
                try:
                    asyncio.run(self._serve(listeners, lambda: ready.set_result(None)))
                except BaseException as error:
                    if ready.done():
                        raise
                    ready.set_exception(error)

            thread = threading.Thread(target=work, name="orders-reference-server", daemon=True)
            thread.start()
            try:
                ready.result()
            except BaseException:
                for listener in listeners:
                    listener.close()
                raise
            self._thread = thread
            self._url = url_of(listeners[0])
            self._port = listeners[0].getsockname()[1]

    def stop(self) -> None:
        """Answer the requests in flight, stop, and forget everything. Does nothing if the server is not running.

        A client that has sent a part of a request has 10 seconds to send the rest. Nothing else takes long.
        """
        with self._lock:
            if self._thread is not None:
                self._loop.call_soon_threadsafe(self._stopping.set)
                self._thread.join()
                self._thread = self._url = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        self.start()  # Not in a thread: a task that is cancelled meanwhile would leave the server behind.
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stop)

    def reset(self) -> None:
        """End all delays, wait for the requests in flight, and forget all orders, faults and requests."""
        self._run(lambda: self._controls.reset())

    def fail_next(
        self,
        operation: OperationId | Literal["*"],
        kind: Kind = "error",
        *,
        order_id: str | None = None,
        executor_id: str | None = None,
        when: When | None = None,
        status: int | None = None,
        body: Body | None = None,
        retry_after: int | None = None,
        delay_ms: int | None = None,
        count: int = 1,
    ) -> Fault:
        """Add a fault for the next `count` requests of an operation, or of all if it is `*`; return the fault.

        With `order_id` or `executor_id`, it is only for requests with that value.

        `kind` is one of

        - `error`: 500, or another `status` from 400 to 599. Its `body` is `json` (the default), `html` as gateways send
          it, or `empty`. With `retry_after`, it has the header `Retry-After`, in seconds;
        - `delay`: the normal answer after `delay_ms` milliseconds (the other kinds may have a delay too);
        - `drop`: the connection is closed without an answer;
        - `reset`: the connection is reset (TCP RST) without an answer;
        - `truncate`: the connection is closed after half of the normal answer.

        `when` is `before` the operation's transaction (the default), so that a drop loses the request, or `after` it is
        committed, so that a drop loses only the answer. A `truncate` is always `after`. Raises ControlError, a
        ValueError, if a value is wrong.
        """
        fields = _given(
            operation=operation,
            order_id=order_id,
            executor_id=executor_id,
            kind=kind,
            when=when,
            status=status,
            body=body,
            retry_after=retry_after,
            delay_ms=delay_ms,
            count=count,
        )
        return self._call(lambda: self._controls.add_fault(fields))

    def faults(self) -> list[Fault]:
        """Return the faults that are still to happen. `count` is the number of requests that will still get it."""
        return self._call(lambda: list(self._controls.faults))

    def clear_faults(self) -> None:
        """Delete the faults that are still to happen."""
        self._call(lambda: self._controls.faults.clear())

    def requests(
        self,
        operation: OperationId | None = None,
        *,
        outcome: Outcome | OutcomeName | None = None,
        status: int | None = None,
        since: datetime | str | None = None,
    ) -> list[RecordedRequest]:
        """Return the last 1,000 requests with their answers, the oldest first.

        The arguments select the requests of an operation, with an outcome, with a status, or since a time. The time is
        a `datetime` with a time zone, or text as in `RecordedRequest.time`. Raises ControlError.
        """
        moment = since.isoformat() if isinstance(since, datetime) else since
        filters = check_parameters(
            "list_requests", _given(operation=operation, outcome=outcome, status=status, since=moment)
        )
        return self._call(lambda: self._controls.journal.find(**filters))

    def clear_requests(self) -> None:
        """Empty the journal of requests."""
        self._call(lambda: self._controls.journal.clear())

    def add_orders(self, *orders: NewOrder) -> list[StoredOrder]:
        """Store orders as they are, in any state and with any times: all of them or none. Return them as stored.

        By default, an order is `assigned`. Its `assign_time` is its `acquire_time` or now, and the `acquire_time` of an
        acquired order is its `assign_time`. A time is a `datetime` with a time zone, or RFC 3339 text. Raises
        ControlError if a value is wrong, if an `order_id` is stored already, or if an executor would have two active
        orders.
        """
        fields = [
            {name: value.isoformat() if isinstance(value, datetime) else value for name, value in order.items()}
            for order in orders
        ]
        return cast(list[StoredOrder], self._run(lambda: self._controls.add_orders({"orders": fields})))

    def orders(
        self, *, order_id: str | None = None, executor_id: str | None = None, status: ExecutionStatus | None = None
    ) -> list[StoredOrder]:
        """Return the 10,000 newest stored orders, with the columns of `order_profile`, the oldest first.

        The arguments select the orders with an id, an executor or an `execution_status`. Raises ControlError.
        """
        asked = _given(order_id=order_id, executor_id=executor_id, status=status, limit=MAX_ORDERS)
        filters = check_parameters("list_orders", asked)
        _, orders = self._run(lambda: self._controls.orders(**filters))
        return cast(list[StoredOrder], orders)

    async def _serve(self, listeners: list[socket.socket], on_ready: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        async with running(
            self._settings, load_contract(contract_path()), listeners, quiet_s=QUIET_BEFORE_CLOSE_S
        ) as controls:
            assert controls is not None
            self._controls = controls
            on_ready()
            await self._stopping.wait()

    def _is_running(self) -> bool:
        # In a process that was forked from the server's, the thread is not alive.
        return self._thread is not None and self._thread.is_alive()

    def _run(self, coroutine: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the server's event loop; return its result. The server does not stop meanwhile."""
        with self._lock:
            if not self._is_running():
                raise RuntimeError("the server is not running")
            return asyncio.run_coroutine_threadsafe(coroutine(), self._loop).result()

    def _call(self, function: Callable[[], T]) -> T:
        """Call a function on the server's event loop; return its result."""

        async def call() -> T:
            return function()

        return self._run(call)


def _given(**values: Any) -> dict[str, Any]:
    """Return the values that are not None."""
    return {name: value for name, value in values.items() if value is not None}
