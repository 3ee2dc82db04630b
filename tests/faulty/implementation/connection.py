"""The connection: reads HTTP/1.1 requests from a socket and sends the responses."""

import re
import socket
import socketserver
import threading
import time
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from tests.faulty.implementation.api import Api
from tests.faulty.implementation.messages import Request, Response


class BadRequest(Exception):
    """The bytes received are not an HTTP request, are too many, or end too early."""


class Connection(socketserver.StreamRequestHandler):
    """Reads requests and sends responses until either side closes the connection."""

    LIMIT = 65536
    LINGER_S = 1
    REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([^\x00-\x20\x7f]+) HTTP/1\.([01])")
    ORIGIN = re.compile(rb"https?://[^/?#]+", re.IGNORECASE)
    HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
    CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;.*)?")
    UNREPEATABLE = ("host", "content-length", "transfer-encoding")

    disable_nagle_algorithm = True
    server: "Listener"

    def setup(self) -> None:
        """Take the API from the server."""
        super().setup()
        self.api = self.server.api

    def handle(self) -> None:
        """Serve requests until the connection ends. A connection that breaks is no error."""
        with suppress(OSError):
            while self.serve_request():
                pass

    def serve_request(self) -> bool:
        """Read a request and answer it. Return whether another may follow."""
        try:
            request = self.receive()
        except BadRequest:
            self.refuse()
            return False
        if request is None:
            return False
        self.respond(request)
        return request.keep_alive

    def respond(self, request: Request) -> None:
        """Answer a request, and send the response."""
        self.send(self.answer(request), head_only=request.method == "HEAD", close=not request.keep_alive)

    def answer(self, request: Request) -> Response:
        """Answer a request."""
        return self.api.answer(request)

    def refuse(self) -> None:
        """Answer a bad request. Then read on for a while: a client that still sends could lose the answer."""
        self.send(self.api.bad_request(), close=True)
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(self.LINGER_S)
        end = time.monotonic() + self.LINGER_S
        while time.monotonic() < end and self.connection.recv(self.LIMIT):
            pass

    def receive(self) -> Request | None:
        """Read a request. Return None if the client has closed the connection. Raises BadRequest."""
        self.bytes_left = self.LIMIT
        request = self.read_request_line()
        if request is not None:
            self.read_headers(request)
            self.read_body(request)
        return request

    def read_request_line(self) -> Request | None:
        """Read the first line of a request. Return None if the client has closed the connection."""
        if not self.rfile.peek(1):  # type: ignore[attr-defined]
            return None
        line = self.read_line()
        if not line:  # Some clients send an empty line after a body.
            line = self.read_line()
        match = self.REQUEST_LINE.fullmatch(line)
        if not match:
            raise BadRequest
        method, target, minor = match.groups()
        path, _, query = self.ORIGIN.sub(b"", target, count=1).partition(b"?")
        return Request(method.decode(), path.decode("latin-1"), query, keep_alive=minor == b"1")

    def read_headers(self, request: Request) -> None:
        """Read the headers of a request."""
        headers = request.headers
        while line := self.read_line():
            match = self.HEADER.fullmatch(line)
            if not match:
                raise BadRequest
            name = match[1].decode().lower()
            value = match[2].decode("latin-1").rstrip(" \t")
            if name in headers:
                if name in self.UNREPEATABLE:
                    raise BadRequest
                value = f"{headers[name]}, {value}"
            headers[name] = value
        if request.keep_alive and "host" not in headers:
            raise BadRequest
        options = [option.strip().lower() for option in headers.get("connection", "").split(",")]
        request.keep_alive = "close" not in options and (request.keep_alive or "keep-alive" in options)

    def read_body(self, request: Request) -> None:
        """Read the body of a request. The next request begins behind it."""
        length = request.headers.get("content-length")
        coding = request.headers.get("transfer-encoding")
        if length is None and coding is None:
            return
        if length is not None and (coding is not None or not re.fullmatch("[0-9]{1,19}", length)):
            raise BadRequest
        if coding is not None and coding.lower() != "chunked":
            raise BadRequest
        if request.headers.get("expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.bytes_left = self.LIMIT
        request.body = self.read_chunks() if length is None else self.read_exactly(int(length))

    def read_chunks(self) -> bytes:
        """Read a body in chunks, and its trailers."""
        body = b""
        while True:
            match = self.CHUNK_SIZE.fullmatch(self.read_line())
            if not match:
                raise BadRequest
            if int(match[1], 16) == 0:
                break
            body += self.read_exactly(int(match[1], 16))
            if self.read_line():
                raise BadRequest
        while self.read_line():
            pass
        return body

    def read_line(self) -> bytes:
        """Read a line. Return it without its line ending."""
        line = self.rfile.readline(self.bytes_left + 1)
        self.bytes_left -= len(line)
        if self.bytes_left < 0 or not line.endswith(b"\n"):
            raise BadRequest
        return line.removesuffix(b"\n").removesuffix(b"\r")

    def read_exactly(self, length: int) -> bytes:
        """Read exactly `length` bytes."""
        self.bytes_left -= length
        if self.bytes_left < 0:
            raise BadRequest
        data = self.rfile.read(length)
        if len(data) < length:
            raise BadRequest
        return data

    def send(self, response: Response, *, head_only: bool = False, close: bool = False) -> None:
        """Send a response."""
        headers = {
            "Date": formatdate(usegmt=True),
            **response.headers,
            "Content-Length": str(len(response.content)),
            **({"Connection": "close"} if close else {}),
        }
        lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        self.wfile.write(head if head_only else head + response.content)


class Listener(socketserver.ThreadingTCPServer):
    """Accepts connections and serves each in a thread of its own. It can close them all."""

    allow_reuse_address = True
    request_queue_size = 1024

    def __init__(self, port: int, connection: type[Connection], api: Api) -> None:
        super().__init__(("127.0.0.1", port), connection)
        self.api = api
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember a connection while it is open."""
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection, and close it."""
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """Shut down every open connection; its thread then closes it."""
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
