"""Requests to the server under test, to the byte, and its answers as they came.

A request keeps its query as it goes over the wire, because much of the contract is about encodings that an HTTP library
would put right. What is sent is put together here; answers are read by `http.client`.
"""

import contextlib
import http.client
import io
import json
import select
import shlex
import socket
import ssl
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, cast
from urllib.parse import quote, urlsplit

MAX_BODY_BYTES = 1 << 20
# A kept connection is used again only this soon, so that it never meets the server's own idle timeout.
REUSE_WITHIN_S = 0.2


def encode(parameters: Iterable[tuple[str, str]]) -> str:
    """Return a query string in which everything but letters, digits and `-._~` is percent-encoded."""
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in parameters)


@dataclass(frozen=True)
class Request:
    """A request, as it goes over the wire below the base URL."""

    method: str
    path: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    # What is sent instead of all that, if it is not HTTP.
    raw: bytes | None = None

    @property
    def target(self) -> str:
        """The path with the query."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def curl(self, base_url: str) -> str:
        """Return the command that sends this request, for any shell."""
        if self.raw is not None:
            url = urlsplit(base_url)
            port = url.port or (443 if url.scheme == "https" else 80)
            to = f"openssl s_client -quiet -connect {url.hostname}:{port}" if url.scheme == "https" else ""
            return f"{_printf(self.raw)} | {to or f'nc {url.hostname} {port}'}"
        words = ["curl", "-i"]
        if self.method == "HEAD":
            words.append("--head")
        elif self.method != "GET" or self.body:
            words += ["-X", self.method]
        for name, value in self.headers:
            words += ["-H", f"{name}: {value}"]
        words.append(base_url + self.target)
        if not self.body:
            return " ".join(shlex.quote(word) for word in words)
        if not any(name == "Content-Type" for name, _ in self.headers):
            words += ["-H", "Content-Type:"]
        return f"{_printf(self.body)} | {' '.join(shlex.quote(word) for word in words)} --data-binary @-"

    @property
    def payload(self) -> bytes:
        """The body as it goes over the wire."""
        chunked = any(name == "Transfer-Encoding" for name, _ in self.headers)
        return b"%x\r\n%s\r\n0\r\n\r\n" % (len(self.body), self.body) if chunked and self.body else self.body


def _printf(data: bytes) -> str:
    """Return the command that prints bytes, whatever they are."""
    plain = set(range(32, 127)) - set(b"'\\%")
    return "printf '" + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in data) + "'"


class _BrokenJSON(ValueError):
    """What JSON forbids, or leaves without a meaning, although Python's parser takes it."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise _BrokenJSON("a key is there twice")
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise _BrokenJSON(f"{name} is not JSON")


@dataclass(frozen=True)
class Answer:
    """A response, as it came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return a header's values, joined by commas, or None if it is absent."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(values) if values else None

    @cached_property
    def json(self) -> dict[str, Any] | None:
        """The body's JSON object; None if the body is anything else."""
        try:
            value = json.loads(self.body.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    @property
    def message(self) -> object:
        """The value of `message` in the body; None without one."""
        return (self.json or {}).get("message")

    @property
    def profile(self) -> dict[str, Any]:
        """The `order_profile` in the body; empty without one."""
        profile = (self.json or {}).get("order_profile")
        return profile if isinstance(profile, dict) else {}

    def __str__(self) -> str:
        text = self.body[:2000].decode(errors="backslashreplace")
        kind = self.header("Content-Type") or "no content type"
        return f"{self.status} ({kind}) {text}" if text else f"{self.status} ({kind}), no body"


@dataclass(frozen=True)
class Exchange:
    """A request and what came of it: an answer, or the reason why there is none."""

    request: Request
    answer: Answer | None
    failure: str = ""
    # Seconds on the client's monotonic clock.
    started: float = 0.0
    ended: float = 0.0
    # Requests with the same number were on their way at the same time.
    group: int = 0

    @property
    def outcome(self) -> str:
        """What came back, in words."""
        return str(self.answer) if self.answer is not None else self.failure


# What a connection, or a peer that does not speak HTTP, can raise.
TRANSPORT_ERRORS = (OSError, http.client.HTTPException, ValueError)


def explain(error: BaseException) -> str:
    """Return what went wrong with a connection, in words."""
    match error:
        case TimeoutError():
            return "no answer in time"
        case ConnectionRefusedError():
            return "the connection was refused"
        case http.client.RemoteDisconnected() | ConnectionError() | http.client.IncompleteRead():
            return "the connection was closed without an answer"
        case http.client.HTTPException() | ValueError():
            return f"the answer is not HTTP: {str(error)[:100]!r}"
        case _:
            return str(error) or type(error).__name__


@dataclass
class Target:
    """The server under test: where it is, and how long an answer may take."""

    base_url: str
    timeout_s: float = 10.0
    host: str = field(init=False)
    port: int = field(init=False)
    prefix: str = field(init=False)
    tls: ssl.SSLContext | None = field(init=False)

    def __post_init__(self) -> None:
        """Take the URL apart; raise ValueError, with what is wrong, for one that is none."""
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https"):
            raise ValueError("it does not start with http:// or https://")
        if not parts.hostname:
            raise ValueError("it names no host")
        if parts.query or parts.fragment or parts.username is not None:
            raise ValueError("it has more than scheme, host, port and path")
        self.base_url = self.base_url.rstrip("/")
        self.host = parts.hostname
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.prefix = parts.path.rstrip("/")
        self.tls = ssl.create_default_context() if parts.scheme == "https" else None

    def open_socket(self) -> socket.socket:
        """Return a new connection to the server."""
        connection = socket.create_connection((self.host, self.port), timeout=self.timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.tls.wrap_socket(connection, server_hostname=self.host) if self.tls else connection

    def raw(self, request: Request) -> bytes:
        """Return the bytes of a request that is the only one on its connection."""
        if request.raw is not None:
            return request.raw
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = [f"{request.method} {self.prefix}{request.target} HTTP/1.1", f"Host: {host}:{self.port}"]
        lines += [f"{name}: {value}" for name, value in request.headers]
        if request.body and not any(name.lower() == "transfer-encoding" for name, _ in request.headers):
            lines.append(f"Content-Length: {len(request.body)}")
        return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + request.payload


class _Incoming(io.RawIOBase):
    """What comes in on a connection, until a moment after which it is too late.

    A socket's own timeout begins anew with each byte; a server that sends one now and then would never meet it.
    """

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self._end = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return a reader, as `HTTPResponse` asks its socket for one."""
        return io.BufferedReader(self)


def read_answer(connection: socket.socket, method: str, seconds: float) -> tuple[Answer, bool]:
    """Read an answer that may take so many seconds; return it, and whether the connection can be used again.

    Raises one of TRANSPORT_ERRORS if there is no answer.
    """
    response = http.client.HTTPResponse(cast("socket.socket", _Incoming(connection, seconds)), method=method)
    try:
        response.begin()
        answer = Answer(response.status, tuple(response.getheaders()), response.read(MAX_BODY_BYTES))
        return answer, response.isclosed() and not response.will_close
    finally:
        response.close()
        connection.settimeout(seconds)


class Connection:
    """Sends requests one after the other; over one connection if it is `kept`, else each over its own."""

    def __init__(self, target: Target, *, kept: bool = True) -> None:
        self._target = target
        self._kept = kept
        self._socket: socket.socket | None = None
        self._used = 0.0

    def send(self, request: Request) -> Answer:
        """Return the answer to a request; raise one of TRANSPORT_ERRORS if there is none."""
        data = self._target.raw(request)
        if self._kept:
            data = data.replace(b"Connection: close\r\n", b"", 1)
        connection = self._connection()
        try:
            connection.sendall(data)
            answer, usable = read_answer(connection, request.method, self._target.timeout_s)
        except BaseException:
            self.close()
            raise
        self._used = time.monotonic()
        if not self._kept or not usable:
            self.close()
        return answer

    def _connection(self) -> socket.socket:
        if self._socket is not None:
            readable, _, _ = select.select([self._socket], [], [], 0)
            stray = self._peek() if readable else b""
            if readable or time.monotonic() - self._used > REUSE_WITHIN_S:
                self.close()
            if stray:
                raise http.client.HTTPException(f"after an answer came more: {stray[:80]!r}")
        if self._socket is None:
            self._socket = self._target.open_socket()
        return self._socket

    def _peek(self) -> bytes:
        """Return what came although nothing was asked for; nothing if the connection was closed."""
        # What comes over TLS may be no more than TLS's own messages.
        if self._socket is None or isinstance(self._socket, ssl.SSLSocket):
            return b""
        try:
            return self._socket.recv(200, socket.MSG_PEEK)
        except OSError:
            return b""

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def send_at_once(
    target: Target, requests: Sequence[Request], gap_s: float = 0.0, *, hold: bool = True
) -> list[Exchange]:
    """Send requests so that they all arrive at the same time, each over its own connection.

    All of each request but its last byte is sent first; then the last bytes, one straight after the other, or `gap_s`
    apart. Without `hold`, the requests are sent whole, one after the other. Returns the exchanges in the order of the
    requests. Raises one of TRANSPORT_ERRORS if a connection fails before the last bytes; what fails after that is in
    the exchange.
    """
    sockets: list[socket.socket] = []
    started: list[float] = []
    try:
        if hold:
            for request in requests:
                sockets.append(target.open_socket())
                sockets[-1].sendall(target.raw(request)[:-1])
            # Long enough for a server to accept the connections and read what there is.
            time.sleep(0.004)
        for index, request in enumerate(requests):
            if gap_s and index:
                time.sleep(gap_s)
            started.append(time.monotonic())
            if hold:
                sockets[index].sendall(target.raw(request)[-1:])
            else:
                sockets.append(target.open_socket())
                sockets[-1].sendall(target.raw(request))
        exchanges = []
        end = time.monotonic() + target.timeout_s
        for connection, request, start in zip(sockets, requests, started, strict=True):
            answer, failure = None, ""
            try:
                answer, _ = read_answer(connection, request.method, max(0.01, end - time.monotonic()))
            except TRANSPORT_ERRORS as error:
                failure = explain(error)
            exchanges.append(Exchange(request, answer, failure, start, time.monotonic()))
        return exchanges
    finally:
        for connection in sockets:
            connection.close()


def send_raw(target: Target, data: bytes, wait_s: float) -> bytes:
    """Send bytes on a connection of their own; return what comes back until it is closed or nothing comes for a while.

    Raises OSError if there is no connection.
    """
    received = b""
    with target.open_socket() as connection, contextlib.suppress(OSError):
        connection.sendall(data)
        end = time.monotonic() + target.timeout_s
        while time.monotonic() < end and len(received) < MAX_BODY_BYTES:
            connection.settimeout(wait_s)
            part = connection.recv(65536)
            if not part:
                break
            received += part
    return received


def parse_answer(data: bytes, method: str = "GET") -> Answer | None:
    """Return the answer that bytes begin with; None if they are no HTTP."""
    if not data.startswith(b"HTTP/"):
        return None
    response = http.client.HTTPResponse(cast("socket.socket", _Received(data)), method=method)
    try:
        response.begin()
        return Answer(response.status, tuple(response.getheaders()), response.read(MAX_BODY_BYTES))
    except TRANSPORT_ERRORS:
        return None
    finally:
        response.close()


class _Received(io.BytesIO):
    """Bytes that came, in the place of a socket."""

    def makefile(self, _mode: str) -> io.BytesIO:
        """Return a reader, as `HTTPResponse` asks its socket for one."""
        return self


class Cut(StrEnum):
    """When and how a client goes away after it has sent a request."""

    CLOSED = "closed at once"
    RESET = "reset at once"
    RESET_LATER = "reset after a moment"
    UNREAD = "reset when the answer was there"


def send_and_leave(target: Target, request: Request, cut: Cut) -> None:
    """Send a request and go away without reading its answer; raise OSError if there is no connection."""
    with target.open_socket() as connection:
        connection.sendall(target.raw(request))
        if cut is Cut.RESET_LATER:
            time.sleep(0.002)
        elif cut is Cut.UNREAD:
            connection.recv(1)
        if cut is not Cut.CLOSED:
            # A linger time of 0 makes close() send a reset.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
