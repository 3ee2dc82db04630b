"""Receives one request on a connection of Tornado's HTTP server, and sends its response.

Every answer from a handler leaves through here. This module adds the headers, writes the access log, and turns errors
into the answer `UnknownError`:

    the handler returned a Response ..... that response
    it raised NoAnswer .................. no response: the connection is closed
    it raised another error ............. 500 Unknown error; the log has the error and its traceback, with an id

An exchange is a delegate of Tornado's server, not a `RequestHandler`. A `RequestHandler` would take about 50
microseconds more per request, a quarter of the time of a poll. We would also have to undo seven of its habits. For
example, it reads arguments from bodies, sends `ETag` and 304, makes error pages, and sends a `Server` header.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from uuid import uuid4

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders, HTTPInputError, HTTPMessageDelegate, RequestStartLine, ResponseStartLine

from orders.http.cors import Cors
from orders.http.responses import Response

logger = logging.getLogger("orders")

MAX_LOGGED_LENGTH = 1_000
REASONS = {status.value: status.phrase for status in HTTPStatus}


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
    """A handler raises this to close the connection without an answer."""


Handler = Callable[[Request], Awaitable[Response]]

# Takes a line per request: method, target, status, milliseconds, client.
AccessLog = Callable[[str], None]


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
        in_flight: InFlight,
        access_log: AccessLog | None,
        cors: Cors | None,
    ) -> None:
        self._handler = handler
        self._connection = connection
        self._unknown_error = unknown_error
        self._in_flight = in_flight
        self._access_log = access_log
        self._cors = cors
        self._body = b""

    def headers_received(self, start_line: object, headers: HTTPHeaders) -> None:
        """Begin a request. Raises HTTPInputError, which Tornado answers, if `Host` is wrong (RFC 9112 §3.2)."""
        assert isinstance(start_line, RequestStartLine)
        self._started = time.perf_counter()
        self._start_line = start_line
        self._headers = headers
        self._in_flight.begin(self)
        if len(headers.get_list("Host")) != 1 and start_line.version == "HTTP/1.1":
            raise HTTPInputError("a request needs one Host header")

    def data_received(self, chunk: bytes) -> None:
        """Keep the body. No operation reads it (D10). The server limits its size."""
        self._body += chunk

    def finish(self) -> None:
        """Begin to answer the request, now that all of it has arrived."""
        self._task = asyncio.create_task(self._answer())

    async def _answer(self) -> None:
        path, _, query = self._origin_form(self._start_line.path).partition("?")
        is_abandoned = self._connection.stream.closed
        request = Request(self._start_line.method, path, query, self._headers, self._body, is_abandoned)
        try:
            response = await self._handler(request)
        except NoAnswer:
            # Detached, so that Tornado does not read a request that the client sent after this one.
            self._connection.detach().close()
            self._end("dropped")
        except Exception as error:
            error_id = uuid4().hex
            logger.error(
                "internal error %s: %s %s", error_id, self._start_line.method, self._start_line.path, exc_info=error
            )
            self._send(self._unknown_error, f" error={error_id}")
        else:
            self._send(response)

    def on_connection_close(self) -> None:
        """Give up a request whose connection closed before its end."""
        self._in_flight.end(self)

    @staticmethod
    def _origin_form(target: str) -> str:
        """Return the request target without a scheme and an authority, which a client may send (RFC 9112 §3.2.2)."""
        if target[:7].lower() != "http://":
            return target
        authority, slash, rest = target[7:].partition("/")
        return f"/{rest}" if slash else "/" + target[7 + len(authority.partition("?")[0]) :]

    def _send(self, response: Response, note: str = "") -> None:
        headers = HTTPHeaders(_headers(response))
        start_line = ResponseStartLine("HTTP/1.1", response.status, REASONS[response.status])
        if self._cors is not None:
            for name, value in self._cors.headers(self._headers.get("Origin")).items():
                headers[name] = value
        body = b"" if self._start_line.method == "HEAD" else response.body
        self._connection.write_headers(start_line, headers, body)
        self._connection.finish()
        self._end(response.status, note)

    def _end(self, status: int | str, note: str = "") -> None:
        self._in_flight.end(self)
        if self._access_log is not None:
            request = f"{self._start_line.method} {self._start_line.path}"
            if len(request) > MAX_LOGGED_LENGTH:
                request = f"{request[:MAX_LOGGED_LENGTH]}..."
            milliseconds = (time.perf_counter() - self._started) * 1000
            self._access_log(f"{request} {status} {milliseconds:.2f}ms {self._connection.context}{note}")


def as_bytes(response: Response) -> bytes:
    """Return a response as it is sent, for the answer to a message that is no request."""
    lines = [
        f"HTTP/1.1 {response.status} {REASONS[response.status]}",
        *(f"{name}: {value}" for name, value in _headers(response).items()),
    ]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode() + response.body


def _headers(response: Response) -> dict[str, str]:
    return {
        "Date": http_date(),
        "Content-Type": response.content_type,
        "Content-Length": str(len(response.body)),
        "Cache-Control": "no-store",
        **response.headers,
    }


_second = 0
_date = ""


def http_date() -> str:
    """Return the current time in the format of `Date` (RFC 9110 §5.6.7). It is formatted once per second."""
    global _second, _date
    now = int(time.time())
    if now != _second:
        _date = formatdate(now, usegmt=True)
        _second = now
    return _date
