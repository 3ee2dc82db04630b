"""Receives one request on a connection of Tornado's HTTP server, and sends its response.

Every answer from a handler leaves through here. This module adds the headers, writes the access log, and turns errors
into the answer `UnknownError`:

    the handler returned a Response ..... that response
    it raised NoAnswer .................. no response, or half of one: the connection is closed or reset
    it raised another error ............. 500 Unknown error; the log has the error and its traceback, with an id

An exchange is a delegate of Tornado's server, not a `RequestHandler`. A `RequestHandler` would take about 50
microseconds more per request, a quarter of the time of a poll. We would also have to undo seven of its habits. For
example, it reads arguments from bodies, sends `ETag` and 304, makes error pages, and sends a `Server` header.
"""

import asyncio
import logging
import re
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal, cast

import tornado
from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.iostream import StreamClosedError

from orders.http.cors import Cors
from orders.http.errors import ErrorLog
from orders.http.responses import REASONS, Response, as_bytes, headers_of
from orders.http.stream import Stream

logger = logging.getLogger("orders")

MAX_LOGGED_LENGTH = 1_000
# A connection has at most this much of a response to send. A client has to read as much within the idle timeout.
MAX_UNSENT_BYTES = 64 * 1024
# RFC 9110 §7.2. It may be empty.
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.~!$&'()*+,;=%-]*)(:[0-9]*)?", re.ASCII)
CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
IS_BEFORE_6_5 = tornado.version_info < (6, 5)
# With this option (SO_LINGER, 0 seconds), a close resets the connection.
RESET_AT_CLOSE = struct.pack("ii", 1, 0)
ABSOLUTE_FORM = re.compile(r"https?://[^/?]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Request:
    """The parts of a request that a handler needs.

    `query` is raw: each of its characters stands for a byte (Latin-1). `is_abandoned` returns whether the client has
    closed the connection.
    """

    method: str
    path: str
    query: str
    headers: HTTPHeaders
    body: bytes
    is_abandoned: Callable[[], bool]


class NoAnswer(Exception):
    """A handler raises this to end the connection without a whole answer.

    The connection is closed if `ending` is `dropped`, and reset if it is `reset`. If it is `truncated`, `beginning` is
    sent first: a response whose `Content-Length` is greater than its body.
    """

    def __init__(self, ending: Literal["dropped", "reset", "truncated"], beginning: Response | None = None) -> None:
        super().__init__(ending)
        self.ending = ending
        self.beginning = beginning


Handler = Callable[[Request], Awaitable[Response]]

# Takes a line per request: method, target, status, milliseconds, client.
AccessLog = Callable[[str], None]


def origin_form(target: str) -> str:
    """Return a request target without the scheme and the authority that it may begin with (RFC 9112 §3.2.2)."""
    if target.startswith("/"):
        return target
    authority = ABSOLUTE_FORM.match(target)
    if authority is None:
        return target
    rest = target[authority.end() :]
    return rest if rest.startswith("/") else f"/{rest}"


def is_malformed(start_line: RequestStartLine, headers: HTTPHeaders) -> bool:
    """Return whether a request is one that Tornado, or an older Tornado, accepts and RFC 9112 does not."""
    hosts = headers.get_list("Host")
    if (len(hosts) != 1 and start_line.version == "HTTP/1.1") or not all(map(HOST.fullmatch, hosts)):
        return True
    return IS_BEFORE_6_5 and (
        headers.get("Transfer-Encoding", "chunked").lower() != "chunked"
        or any(map(CONTROL_CHARACTER.search, (start_line.path, *headers.values())))
    )


class InFlight:
    """The requests that are being received or answered. A server waits for them before it stops."""

    def __init__(self) -> None:
        self._exchanges: set[Exchange] = set()
        self._last_end = time.monotonic()

    def begin(self, exchange: "Exchange") -> None:
        """Record that a request has begun to arrive."""
        self._exchanges.add(exchange)

    def end(self, exchange: "Exchange") -> None:
        """Record that a request was answered or cut off."""
        self._exchanges.discard(exchange)
        self._last_end = time.monotonic()

    def quiet_s(self) -> float:
        """Return the seconds since the last request ended, or 0 while there is one."""
        return 0.0 if self._exchanges else time.monotonic() - self._last_end


class Exchange(HTTPMessageDelegate):
    """One request on a connection, and its response."""

    def __init__(
        self,
        handler: Handler,
        connection: HTTP1Connection,
        unknown_error: Response,
        errors: ErrorLog,
        in_flight: InFlight,
        access_log: AccessLog | None,
        cors: Cors | None,
    ) -> None:
        self._handler = handler
        self._connection = connection
        self._unknown_error = unknown_error
        self._errors = errors
        self._in_flight = in_flight
        self._access_log = access_log
        self._cors = cors
        self._body = b""

    def headers_received(self, start_line: object, headers: HTTPHeaders) -> None:
        """Begin a request, or refuse a malformed one and close the connection."""
        assert isinstance(start_line, RequestStartLine)
        if is_malformed(start_line, headers):
            # Not by HTTPInputError, which Tornado answers only since 6.5.
            cast(Stream, self._connection.detach()).refuse()
            return
        self._started = time.perf_counter()
        self._start_line = start_line
        self._headers = headers
        self._in_flight.begin(self)
        connection = headers.get("Connection")
        if connection is not None and "close" in re.split(r"[\s,]+", connection.lower()):
            cast(Stream, self._connection.stream).is_last_request = True

    def data_received(self, chunk: bytes) -> None:
        """Keep the body. No operation reads it (D10). The server limits its size."""
        self._body += chunk

    def finish(self) -> None:
        """Begin to answer the request, now that all of it has arrived."""
        self._task = asyncio.create_task(self._answer())

    async def _answer(self) -> None:
        path, _, query = origin_form(self._start_line.path).partition("?")
        is_abandoned = self._connection.stream.closed
        request = Request(self._start_line.method, path, query, self._headers, self._body, is_abandoned)
        try:
            response = await self._handler(request)
        except NoAnswer as no_answer:
            await self._break_off(no_answer)
        except Exception as error:
            error_id = self._errors.add(error, f"{self._start_line.method} {self._start_line.path}")
            await self._send(self._unknown_error, f" error={error_id}")
        else:
            await self._send(response)

    def on_connection_close(self) -> None:
        """Give up a request whose connection closed before its end."""
        self._in_flight.end(self)

    async def _break_off(self, no_answer: NoAnswer) -> None:
        """End the connection without a whole answer."""
        # Detached, so that Tornado does not read a request that the client sent after this one.
        stream = self._connection.detach()
        if (beginning := no_answer.beginning) is not None:
            with suppress(StreamClosedError, TimeoutError):
                headers = {**beginning.headers, **self._cors_headers()}
                await self._progress(stream.write(as_bytes(replace(beginning, headers=headers))))
        if no_answer.ending == "reset" and not stream.closed():
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        stream.close()
        self._end(no_answer.ending)

    async def _send(self, response: Response, note: str = "") -> None:
        """Send a response in pieces. Close the connection of a client that reads none within the idle timeout."""
        headers = HTTPHeaders(headers_of(response))
        start_line = ResponseStartLine("HTTP/1.1", response.status, REASONS.get(response.status, ""))
        for name, value in self._cors_headers().items():
            headers[name] = value
        if cast(Stream, self._connection.stream).is_last_request:
            headers["Connection"] = "close"
        body = b"" if self._start_line.method == "HEAD" else response.body
        try:
            sent = self._connection.write_headers(start_line, headers, body[:MAX_UNSENT_BYTES])
            for start in range(MAX_UNSENT_BYTES, len(body), MAX_UNSENT_BYTES):
                if not sent.done():
                    await self._progress(sent)
                sent = self._connection.write(body[start : start + MAX_UNSENT_BYTES])
            self._connection.finish()
            if not sent.done():
                await self._progress(sent)
        except (StreamClosedError, TimeoutError):
            self._connection.close()
            self._end("unread", note)
        else:
            self._end(response.status, note)

    def _cors_headers(self) -> Mapping[str, str]:
        return {} if self._cors is None else self._cors.headers(self._headers.get("Origin"))

    async def _progress(self, sent: "asyncio.Future[None]") -> None:
        """Wait until a piece is sent. Raises TimeoutError if the client reads nothing within the idle timeout."""
        async with asyncio.timeout(self._connection.params.header_timeout):
            await sent

    def _end(self, status: int | str, note: str = "") -> None:
        self._in_flight.end(self)
        if self._access_log is not None:
            request = f"{self._start_line.method} {self._start_line.path}"
            if len(request) > MAX_LOGGED_LENGTH:
                request = f"{request[:MAX_LOGGED_LENGTH]}..."
            milliseconds = (time.perf_counter() - self._started) * 1000
            self._access_log(f"{request} {status} {milliseconds:.2f}ms {self._connection.context}{note}")
