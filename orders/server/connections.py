"""Accepts connections on listening sockets, serves them with Tornado's HTTP server, and stops gracefully."""

import asyncio
import errno
import logging
import socket
import time
from dataclasses import replace
from typing import Any

from tornado.httpserver import HTTPServer

from orders.http.app import App
from orders.http.stream import Stream
from orders.server.sockets import BACKLOG

logger = logging.getLogger("orders")

MAX_HEADER_BYTES = 64 * 1024
MAX_BODY_BYTES = 64 * 1024
OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
ACCEPT_RETRY_S = 1.0
STOP_TIMEOUT_S = 10.0


class Server:
    """An app on listening sockets, on the running event loop."""

    def __init__(
        self, app: App, listeners: list[socket.socket], *, idle_timeout_s: float, accept_at_once: int = BACKLOG
    ) -> None:
        """Accept connections from now on, at most `accept_at_once` per listener in one turn of the event loop.

        The server closes a connection that takes longer than `idle_timeout_s` to send its next request.
        """
        self._in_flight = app.in_flight
        self._refusal = replace(app.common_responses["BadRequest"], headers={"Connection": "close"})
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
        self._http.handle_stream(Stream(connection, self._refusal), address)

    def _resume(self, listener: socket.socket) -> None:
        if listener.fileno() >= 0:
            self._loop.add_reader(listener, self._accept_waiting, listener)

    async def stop(self, quiet_s: float) -> None:
        """Stop accepting connections, answer the requests in flight, and close every connection.

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
