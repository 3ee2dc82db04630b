"""The reference server inside a test: `ReferenceServer`, a context manager.

    with ReferenceServer() as server:
        server.fail_next("assign_order", "drop", when="after")
        my_client(server.url).assign("order-1", "executor-1", "zone-1")
        assert [request.outcome for request in server.requests()] == ["dropped", "answered"]

For pytest there are the fixtures `orders_server` and `orders_url` (`pytest_orders`).
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Any, Literal, Self, TypedDict, TypeVar, cast

from orders.contract import contract_path, load_contract
from orders.controls.controls import ControlError, Fault, Outcome, RecordedRequest
from orders.http.cors import check_origin
from orders.server.serve import running
from orders.server.sockets import CannotListen, listen, url_of
from orders.settings import Settings
from orders.storage.database import DatabaseURL

__all__ = [
    "CannotListen",
    "ControlError",
    "ExecutionStatus",
    "Fault",
    "Kind",
    "OperationId",
    "Outcome",
    "RecordedRequest",
    "ReferenceServer",
    "StoredOrder",
    "When",
]

T = TypeVar("T")

# Spelled out, so that a type checker finds a misspelt one.
OperationId = Literal["assign_order", "acquire_order", "cancel_order"]
Kind = Literal["error", "delay", "drop"]
When = Literal["before", "after"]
ExecutionStatus = Literal["assigned", "acquired", "completed", "cancelled"]

IDLE_TIMEOUT_S = 60.0
QUIET_BEFORE_CLOSE_S = 0.02  # Clients are in this process or beside it: what they have sent arrives sooner.


class StoredOrder(TypedDict):
    """An order as it is stored (D6); the times as RFC 3339 has them, in UTC."""

    assigned_order_id: str
    order_id: str
    executor_id: str
    zone_id: str
    execution_status: ExecutionStatus
    assign_time: str
    acquire_time: str | None


class ReferenceServer:
    """The whole service in a thread of this process, its orders in memory, with the test controls as methods.

    Use it with `with`, or with `async with`; where neither fits, call `start` and `stop`. The methods may be called
    from any thread, and take a few milliseconds at most, so a coroutine may call them too.
    """

    def __init__(self, *, port: int = 0, cors_origins: Sequence[str] = ()) -> None:
        """Prepare a server on 127.0.0.1 and `port`, 0 being a free one; pages of `cors_origins` may call it.

        Raises ValueError if there is no such port, or an origin is not as browsers write it.
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
        )
        self._url: str | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where the server is: `http://127.0.0.1:` and its port. Raises RuntimeError if it is not running."""
        if self._url is None:
            raise RuntimeError("the server is not running")
        return self._url

    def start(self) -> None:
        """Serve from now on; started again, on the same port as before, so that a client can find it again.

        Raises CannotListen if the port is taken, RuntimeError if this server is running.
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
        """Answer what is on its way, and forget everything. Does nothing if the server is not running.

        A client that is in the middle of a request has 10 seconds to send the rest; nothing else takes long.
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
        """Forget all orders, faults and requests, once what is under way has ended; delays end at once."""
        self._run(lambda: self._controls.reset())

    def fail_next(
        self,
        operation: OperationId,
        kind: Kind = "error",
        *,
        when: When = "before",
        status: int | None = None,
        delay_ms: int | None = None,
        count: int = 1,
    ) -> Fault:
        """Give the next `count` requests of an operation a fault; return it.

        `operation` is `assign_order`, `acquire_order` or `cancel_order`. `kind` is `error` (500, or another `status` of
        the contract), `delay` (of `delay_ms` milliseconds, which the others may have too) or `drop`: the connection is
        closed without an answer. `when` is `before` the operation's transaction, so that a dropped request is lost, or
        `after` it is committed, so that only the answer is. Raises ControlError, a ValueError, for anything else.
        """
        fields: dict[str, object] = {"operation": operation, "kind": kind, "when": when, "count": count}
        if status is not None:
            fields["status"] = status
        if delay_ms is not None:
            fields["delay_ms"] = delay_ms
        return self._call(lambda: self._controls.add_fault(fields))

    def faults(self) -> list[Fault]:
        """Return the faults that are still to happen, each with what is left of its count."""
        return self._call(lambda: self._controls.faults())

    def clear_faults(self) -> None:
        """Drop the faults that are still to happen."""
        self._call(lambda: self._controls.clear_faults())

    def requests(
        self, operation: OperationId | None = None, *, status: int | None = None, since: datetime | str | None = None
    ) -> list[RecordedRequest]:
        """Return the last 1,000 requests with their answers, the oldest first.

        Only those of an operation, with a status, or since a time (with its zone, or a recorded `time`), if asked for.
        Raises ControlError.
        """
        moment = since.isoformat() if isinstance(since, datetime) else since
        return self._call(lambda: self._controls.requests(operation, status, moment))

    def clear_requests(self) -> None:
        """Empty the journal of requests."""
        self._call(lambda: self._controls.clear_requests())

    def orders(
        self, *, order_id: str | None = None, executor_id: str | None = None, status: ExecutionStatus | None = None
    ) -> list[StoredOrder]:
        """Return the stored orders, the oldest first, with the columns of `order_profile`; 10,000 at most.

        Only those with an id, of an executor, or with an `execution_status`, if asked for. Raises ControlError.
        """
        asked = {"order_id": order_id, "executor_id": executor_id, "execution_status": status}
        filters = {column: value for column, value in asked.items() if value is not None}
        _, orders = self._run(lambda: self._controls.orders(filters))
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
        # The thread is not alive in a process that was forked from the server's.
        return self._thread is not None and self._thread.is_alive()

    def _run(self, coroutine: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the server's event loop, which does not stop meanwhile; return its result."""
        with self._lock:
            if not self._is_running():
                raise RuntimeError("the server is not running")
            return asyncio.run_coroutine_threadsafe(coroutine(), self._loop).result()

    def _call(self, function: Callable[[], T]) -> T:
        """Call a function on the server's event loop; return its result."""

        async def call() -> T:
            return function()

        return self._run(call)
