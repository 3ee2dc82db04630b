"""Runs `orders serve`: opens everything, serves until a signal, and closes everything."""

import asyncio
import logging
import os
import resource
import select
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from orders.conformance import check
from orders.contract import Contract, contract_path, load_contract
from orders.http.app import App
from orders.http.cors import Cors
from orders.http.exchange import AccessLog
from orders.lifecycle import Orders
from orders.openapi import DocumentError
from orders.server.connections import Server
from orders.server.console import has_colour, welcome
from orders.server.log import STDERR, start_logging
from orders.server.sockets import BACKLOG, CannotListen, listen, url_of
from orders.server.workers import WorkerFailed, Workers
from orders.settings import Settings
from orders.storage.database import prepare
from orders.storage.models import CannotOpenDatabase

if TYPE_CHECKING:
    from orders.controls.middleware import Controls

logger = logging.getLogger("orders")

STDOUT = 1
STDOUT_TIMEOUT_S = 5.0
QUIET_BEFORE_CLOSE_S = 0.25


class CannotStart(Exception):
    """The server cannot start. The message says why, on one line."""


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
            from orders.controls.endpoints import add_controls

            host = None if settings.expose_controls else settings.host
            controls = add_controls(app, contract, orders, cors, host)
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
    settings: Settings,
    contract: Contract,
    listeners: list[socket.socket],
    access_log: AccessLog | None,
    on_ready: Callable[[], None],
    parent_gone: int | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, or until the file descriptor `parent_gone` becomes readable.

    Calls `on_ready` when the server can answer requests.
    """
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stopping.set)
    if parent_gone is not None:
        loop.add_reader(parent_gone, stopping.set)
    if settings.controls and not settings.database.in_memory:
        logger.warning("the test controls are on: a reset deletes all orders of the database")
    try:
        async with running(settings, contract, listeners, access_log):
            on_ready()
            await stopping.wait()
    finally:
        # The loop closes next. A later signal must neither reach the closed loop nor kill the process.
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(signal_number)
            signal.signal(signal_number, signal.SIG_IGN)


def run(settings: Settings) -> None:
    """Run `orders serve`: serve until a signal stops it. Raises CannotStart."""
    log = start_logging(settings.log_level)
    access_log = log.log if settings.access_log and logger.isEnabledFor(logging.INFO) else None
    try:
        contract = load_contract(contract_path())
        check(contract)
        listeners = listen(settings.host, settings.port)
        prepare(settings.database)
        raise_file_limit()

        def work(on_ready: Callable[[], None], parent_gone: int | None = None) -> None:
            log.start()
            try:
                asyncio.run(serve(settings, contract, listeners, access_log, on_ready, parent_gone))
            finally:
                log.stop()

        def announce() -> None:
            url = url_of(listeners[0])
            write_line(STDOUT, f"orders listening on {url}")
            if os.isatty(STDERR):
                log.add(welcome(url, contract, controls=settings.controls, colour=has_colour(STDERR)) + "\n")

        if settings.workers == 1:
            work(announce)
        else:
            workers = Workers(settings.workers, work, listeners)
            try:
                announce()
            except CannotStart:
                workers.end()
                raise
            workers.watch()
    except (DocumentError, CannotListen, CannotOpenDatabase, FileNotFoundError, WorkerFailed) as error:
        raise CannotStart(str(error)) from error


def write_line(file: int, line: str) -> None:
    """Write a line to a file descriptor. Raises CannotStart if that fails, or if nobody reads a full pipe."""
    try:
        if not select.select([], [file], [], STDOUT_TIMEOUT_S)[1]:
            raise TimeoutError(None, "nobody reads it")
        # Not `print`: Python would write the rest of its buffer when it exits, and fail again.
        os.write(file, f"{line}\n".encode())
    except OSError as error:
        raise CannotStart(f"cannot write to standard output: {error.strerror}") from error


def raise_file_limit() -> None:
    """Allow as many open connections as the system permits. The usual limit of 1,024 files is too low for a server."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
