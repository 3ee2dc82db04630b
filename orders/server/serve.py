"""Runs the server in one process, alone or as a worker: accepts connections, serves them, and stops gracefully."""

import asyncio
import errno
import logging
import multiprocessing
import os
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream, UnsatisfiableReadError

from orders.contract import Contract, ContractError, contract_path, load_contract
from orders.http.app import App, check_operations
from orders.http.cors import Cors
from orders.http.exchange import http_date
from orders.http.responses import BAD_REQUEST
from orders.lifecycle import Orders
from orders.operations import OPERATIONS
from orders.server.console import has_colour, welcome
from orders.server.log import STDERR, AccessLog, LineWriter, start_logging, write_if_possible
from orders.server.sockets import BACKLOG, CannotListen, listen, url_of
from orders.server.workers import WorkerFailed, Workers
from orders.settings import Settings
from orders.storage.database import prepare
from orders.storage.models import CannotOpenDatabase

if TYPE_CHECKING:
    from orders.controls.controls import Controls

logger = logging.getLogger("orders")

MAX_HEADER_BYTES = 64 * 1024
MAX_BODY_BYTES = 64 * 1024
OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
ACCEPT_RETRY_S = 1.0
QUIET_BEFORE_CLOSE_S = 0.25
STOP_TIMEOUT_S = 10.0

# Tornado answers a message that it cannot read with the first of these. The server sends the second instead (D11).
TORNADO_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\n\r\n"
JSON_BAD_REQUEST = (
    "HTTP/1.1 400 Bad Request\r\n"
    "Date: {date}\r\n"
    "Content-Type: application/json\r\n"
    f"Content-Length: {len(BAD_REQUEST.body)}\r\n"
    "Cache-Control: no-store\r\n"
    "Connection: close\r\n"
    "\r\n"
)


class CannotStart(Exception):
    """The server cannot start. The message says why, on one line."""


class RefusingStream(IOStream):
    """A client's connection. A message that is not a request gets a refusal in JSON."""

    def write(self, data: bytes | memoryview) -> asyncio.Future[None]:
        """Write data. Replace Tornado's own bare refusal with one in JSON."""
        if data == TORNADO_BAD_REQUEST:
            data = JSON_BAD_REQUEST.format(date=http_date()).encode() + BAD_REQUEST.body
        return super().write(data)

    def close(self, exc_info: Any = False) -> None:
        """Close the connection. First refuse headers that are too long, which Tornado does not answer."""
        if isinstance(exc_info, UnsatisfiableReadError) and not self.closed():
            self.write(TORNADO_BAD_REQUEST)
        super().close(exc_info)


class Server:
    """An app on listening sockets, on the running event loop."""

    def __init__(
        self, app: App, listeners: list[socket.socket], *, idle_timeout_s: float, accept_at_once: int = BACKLOG
    ) -> None:
        """Accept connections from now on, at most `accept_at_once` per listener in one turn of the event loop.

        The server closes a connection that takes longer than `idle_timeout_s` to send its next request.
        """
        self._in_flight = app.in_flight
        self._listeners = listeners
        self._loop = asyncio.get_running_loop()
        self._http = HTTPServer(
            app,
            max_header_size=MAX_HEADER_BYTES,
            max_body_size=MAX_BODY_BYTES,
            idle_connection_timeout=idle_timeout_s,
            body_timeout=idle_timeout_s,
        )
        self._accept_at_once = accept_at_once
        for listener in listeners:
            self._loop.add_reader(listener, self._accept_waiting, listener)

    def _accept_waiting(self, listener: socket.socket) -> None:
        for _ in range(self._accept_at_once):
            if not self._accept(listener):
                return

    def _accept(self, listener: socket.socket) -> bool:
        """Accept one connection; return whether there was one."""
        try:
            connection, address = listener.accept()
        except OSError as error:
            if error.errno in OUT_OF_RESOURCES:
                logger.warning("cannot accept connections: %s", error.strerror)
                self._loop.remove_reader(listener)
                self._loop.call_later(ACCEPT_RETRY_S, self._resume, listener)
            return False  # For any other error, another worker was faster or the client has gone.
        self._serve(connection, address)
        return True

    def _serve(self, connection: socket.socket, address: Any) -> None:
        connection.setblocking(False)
        self._http.handle_stream(RefusingStream(connection), address)

    def _resume(self, listener: socket.socket) -> None:
        if listener.fileno() >= 0:
            self._loop.add_reader(listener, self._accept_waiting, listener)

    async def stop(self, quiet_s: float) -> None:
        """Stop accepting connections, answer the requests on their way, and close every connection.

        Each connected client is told with its next answer that the connection closes. A request that was sent before
        the stop is answered if it arrives within `quiet_s` seconds. The stop takes at most STOP_TIMEOUT_S, however
        slow the clients are.
        """
        for listener in self._listeners:
            self._loop.remove_reader(listener)
            while self._accept(listener):
                pass
            listener.close()
        self._http.conn_params.no_keep_alive = True
        begun = time.monotonic()
        while (now := time.monotonic()) < begun + STOP_TIMEOUT_S:
            if min(self._in_flight.quiet_s(), now - begun) > quiet_s:
                break
            await asyncio.sleep(0.01)
        await self._http.close_all_connections()


@asynccontextmanager
async def running(
    settings: Settings,
    contract: Contract,
    listeners: list[socket.socket],
    access_log: AccessLog | None = None,
    quiet_s: float = QUIET_BEFORE_CLOSE_S,
) -> AsyncIterator["Controls | None"]:
    """Serve inside a `with` block, and stop at its end (`Server.stop`). Yield the test controls if they are on."""
    orders = Orders(settings.database, connections=settings.database_connections)
    controls = None
    try:
        cors = Cors(settings.cors_origins) if settings.cors_origins else None
        app = App(contract, orders, access_log, cors)
        if settings.controls:
            from orders.controls.controls import Controls

            controls = Controls(contract, orders, cors)
            controls.install(app)
        # Each worker accepts one connection at a time, so that all workers share a burst.
        at_once = BACKLOG if settings.workers == 1 else 1
        server = Server(app, listeners, idle_timeout_s=settings.idle_timeout, accept_at_once=at_once)
        try:
            yield controls
        finally:
            if controls is not None:
                controls.close()
            await server.stop(quiet_s)
    finally:
        await orders.close()


async def serve(
    settings: Settings, contract: Contract, listeners: list[socket.socket], on_ready: Callable[[], None]
) -> None:
    """Serve until SIGTERM or SIGINT, or until the parent process is gone.

    Calls `on_ready` when the server can answer requests.
    """
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stopping.set)
    if parent := multiprocessing.parent_process():
        loop.add_reader(parent.sentinel, stopping.set)
    with closing(LineWriter(STDERR)) as log:
        start_logging(settings.log_level, log.write)
        access_log = AccessLog(log.write) if settings.access_log and logger.isEnabledFor(logging.INFO) else None
        if settings.controls and not settings.database.in_memory:
            logger.warning("the test controls are on: a reset deletes all orders of the database")
        async with running(settings, contract, listeners, access_log):
            on_ready()
            await stopping.wait()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        # Without the loop's handler, a signal would kill the process. A second signal must not do that.
        loop.remove_signal_handler(signal_number)
        signal.signal(signal_number, signal.SIG_IGN)


def run(settings: Settings) -> None:
    """Run `orders serve`: serve until a signal stops it. Raises CannotStart."""
    start_logging(settings.log_level, write_if_possible)
    try:
        contract = load_contract(contract_path())
        check_operations(contract, OPERATIONS)
        listeners = listen(settings.host, settings.port)
        prepare(settings.database)
        raise_file_limit()

        def work(on_ready: Callable[[], None]) -> None:
            asyncio.run(serve(settings, contract, listeners, on_ready))

        def announce() -> None:
            url = url_of(listeners[0])
            print(f"orders listening on {url}", flush=True)
            if os.isatty(STDERR):
                write_if_possible(welcome(url, contract, controls=settings.controls, colour=has_colour(STDERR)))

        if settings.workers == 1:
            work(announce)
        else:
            workers = Workers(settings.workers, work, listeners)
            announce()
            workers.watch()
    except (ContractError, CannotListen, CannotOpenDatabase, FileNotFoundError, WorkerFailed) as error:
        raise CannotStart(str(error)) from error


def raise_file_limit() -> None:
    """Allow as many open connections as the system permits. The usual limit of 1,024 files is too low for a server."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
