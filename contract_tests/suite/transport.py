"""Requests to the server under test, byte for byte, and its responses as they came.

A request keeps its query exactly as it goes over the wire, because much of the contract is about encodings that an HTTP
library would correct. This module builds the requests itself; `http.client` reads the responses.
"""

import contextlib
import http.client
import io
import json
import re
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
# A connection is used again only within this time, so that it never meets the server's own idle timeout.
REUSE_WITHIN_S = 0.2


def query_string(parameters: Iterable[tuple[str, str]]) -> str:
    """Return a query string. All characters but letters, digits and `-._~` are percent-encoded."""
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in parameters)


@dataclass(frozen=True)
class Request:
    """A request, as it goes over the wire. Its path is below the base URL."""

    method: str
    path: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    # If given, only this is sent. It need not be HTTP.
    raw: bytes | None = None
    # The target is the whole URL (RFC 9112 §3.2.2).
    absolute: bool = False

    @property
    def path_and_query(self) -> str:
        """The path, with the query if there is one."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def curl(self, base_url: str, token: str = "") -> str:
        """Return the command that sends this request, for any shell. `token` is replaced by the variable `$run`."""
        if self.raw is not None:
            url = urlsplit(base_url)
            port = url.port or (443 if url.scheme == "https" else 80)
            if url.scheme == "https":
                return f"{_printf(self.raw, token)} | openssl s_client -quiet -connect {url.hostname}:{port}"
            exchange = f"exec 3<>/dev/tcp/{url.hostname}/{port}; cat >&3; timeout 2 cat <&3"
            return f"{_printf(self.raw, token)} | bash -c '{exchange}'"
        words = ["curl", "-i"]
        if self.method == "HEAD":
            words.append("--head")
        elif self.method != "GET" or self.body:
            words += ["-X", self.method]
        for name, value in self.headers:
            words += ["-H", f"{name}: {value}"]
        words.append(base_url + self.path_and_query)
        if self.absolute:
            words += ["--request-target", base_url + self.path_and_query]
        if not self.body:
            return " ".join(_word(word, token) for word in words)
        if not any(name == "Content-Type" for name, _ in self.headers):
            words += ["-H", "Content-Type:"]
        return f"{_printf(self.body, token)} | {' '.join(_word(word, token) for word in words)} --data-binary @-"

    @property
    def payload(self) -> bytes:
        """The body as it goes over the wire."""
        chunked = any(name == "Transfer-Encoding" for name, _ in self.headers)
        return b"%x\r\n%s\r\n0\r\n\r\n" % (len(self.body), self.body) if chunked and self.body else self.body


def _word(text: str, token: str) -> str:
    """Return a text as one word for a shell, with the variable `$run` in place of a token."""
    if not token or token not in text:
        return shlex.quote(text)
    return '"' + re.sub(r'([\\"$`])', r"\\\1", text).replace(token, "$run") + '"'


def _printf(data: bytes, token: str = "") -> str:
    """Return a shell command that prints any bytes, with the variable `$run` in place of a token."""
    plain = set(range(32, 127)) - set(b"'\\%")
    text = "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in data)
    return "printf '" + (text.replace(token, "'\"$run\"'") if token else text) + "'"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key is there twice")
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


@dataclass(frozen=True)
class Response:
    """A response, as it came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    # The answer that it stands for, if the server always says this one in other words.
    means: tuple[int, str] | None = None

    def header(self, name: str) -> str | None:
        """Return a header's values, joined by commas; None if the header is absent."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(values) if values else None

    @property
    def media_type(self) -> str:
        """The content type in lower case, without its parameters; empty if there is none."""
        return (self.header("Content-Type") or "").partition(";")[0].strip().lower()

    @cached_property
    def json(self) -> dict[str, Any] | None:
        """The JSON object in the body; None if the body is anything else.

        Python's parser takes keys that are there twice, and constants such as NaN. Here they are not JSON.
        """
        try:
            value = json.loads(self.body.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    @property
    def message(self) -> str:
        """The message in the body; empty if there is none."""
        message = (self.json or {}).get("message")
        return message if isinstance(message, str) else ""

    @property
    def answer(self) -> tuple[int, str]:
        """The status code and the message, to compare with an answer of the contract."""
        return self.means or (self.status, self.message)

    @property
    def profile(self) -> dict[str, Any]:
        """The `order_profile` in the body; empty if there is none."""
        profile = (self.json or {}).get("order_profile")
        return profile if isinstance(profile, dict) else {}

    def __str__(self) -> str:
        text = self.body[:2000].decode(errors="backslashreplace")
        kind = self.header("Content-Type") or "no content type"
        return f"{self.status} ({kind}) {text}" if text else f"{self.status} ({kind}), no body"


class Cut(StrEnum):
    """How a client that has sent a request ends the connection."""

    CLOSED = "closed at once"
    RESET = "reset at once"
    RESET_LATER = "reset after a moment"
    UNREAD = "reset when the answer was there"


@dataclass(frozen=True)
class Step:
    """A step of a scenario: a request and its response, or the reason why there is none."""

    request: Request
    response: Response | None
    no_response: str = ""
    # Seconds on the client's monotonic clock.
    started: float = 0.0
    ended: float = 0.0
    # The requests of a group were on their way at the same time. 0 is no group.
    group: int = 0
    # How the client left, if it did not read the answer.
    cut: Cut | None = None

    @property
    def got(self) -> str:
        """What came back, in words."""
        return str(self.response) if self.response is not None else self.no_response


NO_ANSWER_IN_TIME = "no answer in time"


class UnfinishedBody(http.client.HTTPException):
    """The head of an answer came, but not its whole body. The text says why."""


# What a connection, or a peer that does not speak HTTP, can raise.
TRANSPORT_ERRORS = (OSError, http.client.HTTPException, ValueError)


class DroppedConnection(ConnectionError):
    """The server closed a connection without an answer, although it had kept it open after the answer before."""


def explain(error: BaseException) -> str:
    """Return in words why there is no answer."""
    match error:
        case UnfinishedBody():
            return str(error)
        case DroppedConnection():
            return "the connection, kept open after the answer before, was closed without an answer"
        case TimeoutError():
            return NO_ANSWER_IN_TIME
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
    """The server under test: its URL, and how long a response may take."""

    base_url: str
    timeout_s: float = 10.0
    host: str = field(init=False)
    port: int = field(init=False)
    prefix: str = field(init=False)
    tls: ssl.SSLContext | None = field(init=False)

    def __post_init__(self) -> None:
        """Split the URL. Raises ValueError, which says what is wrong with the URL."""
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https"):
            raise ValueError("it does not start with http:// or https://")
        if not parts.hostname:
            raise ValueError("it has no host")
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

    def encode(self, request: Request) -> bytes:
        """Return the bytes of a request that asks the server to close the connection afterwards."""
        if request.raw is not None:
            return request.raw
        host = f"[{self.host}]" if ":" in self.host else self.host
        origin = f"{'https' if self.tls else 'http'}://{host}:{self.port}" if request.absolute else ""
        target = f"{origin}{self.prefix}{request.path_and_query}"
        lines = [f"{request.method} {target} HTTP/1.1", f"Host: {host}:{self.port}"]
        lines += [f"{name}: {value}" for name, value in request.headers]
        if request.body and not any(name.lower() == "transfer-encoding" for name, _ in request.headers):
            lines.append(f"Content-Length: {len(request.body)}")
        return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + request.payload


class _Incoming(io.RawIOBase):
    """The bytes that come in on a connection within a time.

    A socket's own timeout begins again with each byte, so a server that sends one now and then would never meet it.
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


def read_response(connection: socket.socket, method: str, seconds: float) -> tuple[Response, bool]:
    """Wait up to `seconds` for a response. Return it, and whether the connection can be used again.

    Raises one of TRANSPORT_ERRORS if there is no response.
    """
    reader = http.client.HTTPResponse(cast("socket.socket", _Incoming(connection, seconds)), method=method)
    try:
        response = _read(reader)
        return response, reader.isclosed() and not reader.will_close
    finally:
        connection.settimeout(seconds)


def _read(reader: http.client.HTTPResponse) -> Response:
    try:
        reader.begin()
        headers = tuple(reader.getheaders())
        try:
            body = reader.read(MAX_BODY_BYTES)
        except TimeoutError:
            length = reader.headers["Content-Length"]
            why = f"the body has fewer bytes than its Content-Length, {length}" if length else "the body did not end"
            raise UnfinishedBody(f"{NO_ANSWER_IN_TIME}: {why}") from None
        except (ConnectionError, http.client.IncompleteRead):
            raise UnfinishedBody("the connection was closed within the body of the answer") from None
        return Response(reader.status, headers, body)
    finally:
        reader.close()


class Connection:
    """Sends requests one after the other: over one connection, or without `keep_alive` each over a new one."""

    def __init__(self, target: Target, *, keep_alive: bool = True) -> None:
        self._target = target
        self._keep_alive = keep_alive
        self._socket: socket.socket | None = None
        # When the last answer on the open connection came, on the monotonic clock; 0 if none has come.
        self._used = 0.0

    def send(self, request: Request) -> Response:
        """Return the response to a request. Raises one of TRANSPORT_ERRORS if there is none."""
        data = self._target.encode(request)
        if self._keep_alive:
            data = data.replace(b"Connection: close\r\n", b"", 1)
        connection = self._connection()
        try:
            connection.sendall(data)
            response, usable = read_response(connection, request.method, self._target.timeout_s)
        except (http.client.RemoteDisconnected, ConnectionError) as error:
            self.close()
            raise DroppedConnection if self._used else error from None
        except BaseException:
            self.close()
            raise
        self._used = time.monotonic()
        if not self._keep_alive or not usable:
            self.close()
        return response

    def _connection(self) -> socket.socket:
        if self._socket is not None:
            readable, _, _ = select.select([self._socket], [], [], 0)
            stray = self._peek() if readable else b""
            if readable or time.monotonic() - self._used > REUSE_WITHIN_S:
                self.close()
            if stray:
                raise http.client.HTTPException(f"more bytes followed an answer: {stray[:80]!r}")
        if self._socket is None:
            self._socket = self._target.open_socket()
            self._used = 0.0
        return self._socket

    def _peek(self) -> bytes:
        """Return bytes that came without a request; none if the connection was closed."""
        # Over TLS, these bytes may be TLS's own messages.
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


def send_at_once(target: Target, requests: Sequence[Request], gap_s: float = 0.0, *, hold: bool = True) -> list[Step]:
    """Send requests so that they arrive at the same time, each over its own connection. Return a step for each.

    First, each request is sent without its last byte. Then the last bytes follow, `gap_s` seconds apart. Without
    `hold`, each request is sent as a whole. Raises one of TRANSPORT_ERRORS if a connection fails before the last bytes
    are sent. A step tells what failed later.
    """
    sockets: list[socket.socket] = []
    started: list[float] = []
    try:
        if hold:
            for request in requests:
                sockets.append(target.open_socket())
                sockets[-1].sendall(target.encode(request)[:-1])
            # Time for the server to accept the connections and to read what has arrived.
            time.sleep(0.004)
        for index, request in enumerate(requests):
            if gap_s and index:
                time.sleep(gap_s)
            started.append(time.monotonic())
            if hold:
                sockets[index].sendall(target.encode(request)[-1:])
            else:
                sockets.append(target.open_socket())
                sockets[-1].sendall(target.encode(request))
        steps = []
        end = time.monotonic() + target.timeout_s
        for connection, request, start in zip(sockets, requests, started, strict=True):
            response, no_response = None, ""
            try:
                response, _ = read_response(connection, request.method, max(0.01, end - time.monotonic()))
            except TRANSPORT_ERRORS as error:
                no_response = explain(error)
            steps.append(Step(request, response, no_response, start, time.monotonic()))
        return steps
    finally:
        for connection in sockets:
            connection.close()


def send_raw(target: Target, data: bytes, wait_s: float) -> bytes:
    """Send bytes over a new connection. Return what comes back, until nothing has come for `wait_s` seconds.

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


def parse_response(data: bytes) -> Response | None:
    """Return the response that `data` begins with; None if it is not HTTP."""
    if not data.startswith(b"HTTP/"):
        return None
    try:
        return _read(http.client.HTTPResponse(cast("socket.socket", _Received(data)), method="GET"))
    except TRANSPORT_ERRORS:
        return None


class _Received(io.BytesIO):
    """Bytes that `HTTPResponse` reads as if they came from a socket."""

    def makefile(self, _mode: str) -> io.BytesIO:
        """Return a reader, as `HTTPResponse` asks its socket for one."""
        return self


def send_and_leave(target: Target, request: Request, cut: Cut) -> None:
    """Send a request and end the connection without reading the response.

    Raises OSError if there is no connection.
    """
    with target.open_socket() as connection:
        connection.sendall(target.encode(request))
        if cut is Cut.RESET_LATER:
            time.sleep(0.002)
        elif cut is Cut.UNREAD:
            connection.recv(1)
        if cut is not Cut.CLOSED:
            # A linger time of 0 makes close() send a reset.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
