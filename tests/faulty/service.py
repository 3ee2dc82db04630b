"""The API once more, independent of `orders`, on the standard library alone and in memory.

It is correct (D1 to D12), and in small pieces, so that a subclass of one piece makes a server with one fault:

- `Book` knows the orders: what assign, acquire and cancel do.
- `Parameters` reads and checks the parameters of a request.
- `Api` turns a request into a reply: routes, statuses, messages.
- `Connection` speaks HTTP on a socket.

`Server` puts the pieces together and serves them in threads of this process.
"""

import json
import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes
from uuid import uuid4

ASSIGNED = "assigned"
ACQUIRED = "acquired"
COMPLETED = "completed"
CANCELLED = "cancelled"

ASSIGN_PATH = "/orders/assign"
ACQUIRE_PATH = "/order/acquire"
CANCEL_PATH = "/order/cancel"

Profile = dict[str, Any]
Answer = tuple[int, str]


@dataclass
class Order:
    """A row of the database that there is not: its fields are those of an `order_profile`, in the same order (D6)."""

    assigned_order_id: str
    order_id: str
    executor_id: str
    zone_id: str
    execution_status: str
    assign_time: str
    acquire_time: str | None = None

    @property
    def is_active(self) -> bool:
        """Say whether the order is assigned or acquired (D1)."""
        return self.execution_status in (ASSIGNED, ACQUIRED)


class Book:
    """The orders, and for each executor the active one (D2). Every call is one step (D12)."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.orders: dict[str, Order] = {}
        self.active: dict[str, Order] = {}

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        """Register an order; return False, having changed nothing, if `order_id` is known (D3)."""
        with self.lock:
            if self.find(order_id):
                return False
            self.register(self.make(order_id, executor_id, zone_id))
            return True

    def acquire(self, executor_id: str) -> Profile | None:
        """Return the executor's active order, which is acquired from now on (D4), or None if there is none."""
        with self.lock:
            order = self.current(executor_id)
            if order is None:
                return None
            if order.execution_status == ASSIGNED:
                self.mark(order)
            return self.profile(order)

    def cancel(self, order_id: str) -> bool:
        """Cancel an active order (D5); return False if there is no such order."""
        with self.lock:
            order = self.find(order_id)
            if order is None or not order.is_active:
                return False
            self.end(order, CANCELLED)
            return True

    def find(self, order_id: str) -> Order | None:
        """Return a known order, active or not."""
        return self.orders.get(self.key(order_id))

    def current(self, executor_id: str) -> Order | None:
        """Return the executor's active order."""
        return self.active.get(self.key(executor_id))

    def key(self, identifier: str) -> str:
        """Return what identifiers are compared by."""
        return identifier

    def make(self, order_id: str, executor_id: str, zone_id: str) -> Order:
        """Return a new order."""
        return Order(self.new_uuid(), order_id, executor_id, zone_id, ASSIGNED, self.now())

    def new_uuid(self) -> str:
        """Return an `assigned_order_id`."""
        return str(uuid4())

    def now(self) -> str:
        """Return the time as it appears in a profile."""
        return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def register(self, order: Order) -> None:
        """Make a new order its executor's active one, and complete the one that was."""
        if current := self.current(order.executor_id):
            self.end(current, COMPLETED)
        self.add(order)

    def add(self, order: Order) -> None:
        """Enter an order as known and as its executor's active one."""
        self.orders[self.key(order.order_id)] = order
        self.active[self.key(order.executor_id)] = order

    def mark(self, order: Order) -> None:
        """Make an order acquired; a clock that was set back does not make it acquired before it was assigned."""
        order.execution_status = ACQUIRED
        order.acquire_time = max(self.now(), order.assign_time)

    def end(self, order: Order, status: str) -> None:
        """Give an order a final status and free its executor."""
        order.execution_status = status
        if self.current(order.executor_id) is order:
            del self.active[self.key(order.executor_id)]

    def profile(self, order: Order) -> Profile:
        """Return an order as an `order_profile`."""
        return asdict(order)


@dataclass
class Request:
    """A request, as far as it has been read."""

    method: str
    path: str
    query: bytes
    keep_alive: bool
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class MissingParameters(Exception):
    """Parameters are absent or empty (D8)."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self.names = names


class InvalidParameter(Exception):
    """A parameter is invalid (D9)."""

    def __init__(self, name: str, wrong: str) -> None:
        super().__init__(name, wrong)
        self.name = name
        self.wrong = wrong


class Parameters:
    """Reads the parameters of an operation out of a request."""

    LIMIT = 255
    FORBIDDEN = re.compile(r"[\x00-\x1f\x7f]")

    def read(self, request: Request, names: Sequence[str]) -> dict[str, str]:
        """Return the value of each parameter; raise if any is missing, or else for the first that is invalid."""
        given = self.given(request)
        if missing := [name for name in names if self.is_missing(given.get(name, []))]:
            raise MissingParameters(missing)
        return {name: self.value(name, given[name]) for name in names}

    def given(self, request: Request) -> dict[str, list[bytes]]:
        """Return the values of everything that looks like a parameter: the query string's alone (D10)."""
        return self.split(request.query)

    def split(self, query: bytes) -> dict[str, list[bytes]]:
        """Split a query string into names, each with its values as bytes."""
        values: dict[str, list[bytes]] = {}
        for pair in query.split(b"&"):
            name, _, value = pair.partition(b"=")
            values.setdefault(self.name(self.unescape(name)), []).append(self.unescape(value))
        return values

    def name(self, name: bytes) -> str:
        """Return a name as text; what no parameter is called may come out as anything that no parameter is called."""
        return name.decode("latin-1")

    def unescape(self, escaped: bytes) -> bytes:
        """Return the bytes that a part of a query string stands for; a stray `%` stands for itself."""
        return unquote_to_bytes(escaped.replace(b"+", b" "))

    def is_missing(self, values: list[bytes]) -> bool:
        """Say whether there is no value, or none that is not empty."""
        return not any(values)

    def value(self, name: str, values: list[bytes]) -> str:
        """Return the one value of a parameter; raise if there are several, or what is wrong with it."""
        if len(values) > 1:
            raise InvalidParameter(name, "given more than once")
        try:
            text = self.text(values[0])
        except UnicodeDecodeError:
            raise InvalidParameter(name, "not UTF-8") from None
        if wrong := self.wrong(text):
            raise InvalidParameter(name, wrong)
        return text

    def text(self, value: bytes) -> str:
        """Decode a value; nothing else is done to it (D7)."""
        return value.decode("utf-8")

    def wrong(self, text: str) -> str | None:
        """Return what is wrong with an identifier, if anything is."""
        if self.length(text) > self.LIMIT:
            return f"longer than {self.LIMIT} characters"
        if self.FORBIDDEN.search(text):
            return "control characters are not allowed"
        return None

    def length(self, text: str) -> int:
        """Return how many characters an identifier has."""
        return len(text)


@dataclass
class Reply:
    """An answer, before it is bytes."""

    status: int
    content: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Operation:
    """What there is at a path."""

    method: str
    parameters: tuple[str, ...]
    missing: Answer
    run: Callable[..., Reply]


class Api:
    """Answers requests. The answers without anything variable in them are a status and a message."""

    CREATED: Answer = 200, "Successfully created"
    KNOWN: Answer = 400, "AssignedOrder with provided orderId already exists"
    ACQUIRED: Answer = 200, "Successfully acquired"
    NO_ORDERS: Answer = 200, "There are no orders assigned to you"
    CANCELED: Answer = 200, "Successfully canceled"
    NOT_ACTIVE: Answer = 200, "AssignedOrder with OrderId {} does not exist or has already been canceled"
    ASSIGN_MISSING: Answer = 400, "Missing parameters, please provide order_id, executor_id and zone_id"
    ACQUIRE_MISSING: Answer = 400, "Missing parameters, please provide executor_id"
    CANCEL_MISSING: Answer = 400, "Missing parameters, please provide order_id"
    INVALID: Answer = 400, "Invalid parameter {}: {}"
    NOT_FOUND: Answer = 404, "Not found"
    NOT_ALLOWED: Answer = 405, "Method not allowed"
    BAD_REQUEST: Answer = 400, "Bad request"
    ERROR: Answer = 500, "Unknown error"

    def __init__(self, book: Book, parameters: Parameters) -> None:
        self.book = book
        self.parameters = parameters
        self.operations = {
            ASSIGN_PATH: Operation("PUT", ("order_id", "executor_id", "zone_id"), self.ASSIGN_MISSING, self.assign),
            ACQUIRE_PATH: Operation("GET", ("executor_id",), self.ACQUIRE_MISSING, self.acquire),
            CANCEL_PATH: Operation("POST", ("order_id",), self.CANCEL_MISSING, self.cancel),
        }

    def answer(self, request: Request) -> Reply:
        """Answer a request, whatever happens."""
        try:
            return self.route(request)
        except Exception as error:
            return self.error(error)

    def route(self, request: Request) -> Reply:
        """Answer a request to one of the operations, or to none."""
        operation = self.operations.get(request.path)
        if operation is None:
            return self.not_found()
        if request.method != operation.method:
            return self.not_allowed(operation)
        return self.run(operation, request)

    def run(self, operation: Operation, request: Request) -> Reply:
        """Run an operation with the parameters in a request."""
        try:
            arguments = self.parameters.read(request, operation.parameters)
        except MissingParameters as error:
            return self.missing(operation, error.names)
        except InvalidParameter as error:
            return self.invalid(error.name, error.wrong)
        return operation.run(**arguments)

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> Reply:
        """Register an order that was assigned to an executor."""
        return self.reply(self.CREATED if self.book.assign(order_id, executor_id, zone_id) else self.KNOWN)

    def acquire(self, executor_id: str) -> Reply:
        """Give an executor the order assigned to them."""
        profile = self.book.acquire(executor_id)
        return self.no_orders(executor_id) if profile is None else self.acquired(profile)

    def cancel(self, order_id: str) -> Reply:
        """Cancel an order."""
        return self.canceled(order_id) if self.book.cancel(order_id) else self.not_active(order_id)

    def acquired(self, profile: Profile) -> Reply:
        """Return the answer of an acquire that hands out an order."""
        return self.reply(self.ACQUIRED, order_profile=profile)

    def no_orders(self, executor_id: str) -> Reply:
        """Return the answer of an acquire that has no order to hand out."""
        return self.reply(self.NO_ORDERS)

    def canceled(self, order_id: str) -> Reply:
        """Return the answer of a cancel that cancelled."""
        return self.reply(self.CANCELED)

    def not_active(self, order_id: str) -> Reply:
        """Return the answer of a cancel that had nothing to cancel."""
        status, message = self.NOT_ACTIVE
        return self.reply((status, message.format(order_id)))

    def missing(self, operation: Operation, names: Sequence[str]) -> Reply:
        """Return the answer to a request that lacks the parameters `names`: it lists all of the operation's (D8)."""
        return self.reply(operation.missing)

    def invalid(self, name: str, wrong: str) -> Reply:
        """Return the answer to a request with an invalid parameter."""
        status, message = self.INVALID
        return self.reply((status, message.format(name, wrong)))

    def not_found(self) -> Reply:
        """Return the answer for any other path."""
        return self.reply(self.NOT_FOUND)

    def not_allowed(self, operation: Operation) -> Reply:
        """Return the answer for any other method."""
        reply = self.reply(self.NOT_ALLOWED)
        reply.headers["Allow"] = operation.method
        return reply

    def bad_request(self) -> Reply:
        """Return the answer to what is not HTTP."""
        return self.reply(self.BAD_REQUEST)

    def error(self, error: Exception) -> Reply:
        """Return the answer to any internal error; it does not tell what went wrong."""
        return self.reply(self.ERROR)

    def reply(self, answer: Answer, **more: object) -> Reply:
        """Return a reply in JSON."""
        status, message = answer
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        return Reply(status, self.encode({"message": message, **more}), headers)

    def encode(self, document: dict[str, object]) -> bytes:
        """Return a document as it is sent."""
        return json.dumps(document).encode()


class BadRequest(Exception):
    """What was received is not HTTP, is too much, or ended too early."""


class Connection(socketserver.StreamRequestHandler):
    """One connection: reads requests and sends replies, until either side closes it."""

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
        """Prepare the connection."""
        super().setup()
        self.api = self.server.api
        self.left = self.LIMIT

    def handle(self) -> None:
        """Serve the connection; that it breaks is not worth a word."""
        with suppress(OSError):
            while self.exchange():
                pass

    def exchange(self) -> bool:
        """Read a request and answer it; return whether there may be another."""
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
        """Answer a request."""
        self.send(self.answer(request), head_only=request.method == "HEAD", close=not request.keep_alive)

    def answer(self, request: Request) -> Reply:
        """Return the answer to a request."""
        return self.api.answer(request)

    def refuse(self) -> None:
        """Answer what is not HTTP; read on for a while, because a client that is still sending would miss it."""
        self.send(self.api.bad_request(), close=True)
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(self.LINGER_S)
        end = time.monotonic() + self.LINGER_S
        while time.monotonic() < end and self.connection.recv(self.LIMIT):
            pass

    def receive(self) -> Request | None:
        """Read a whole request, or None if the client has closed the connection between two."""
        self.left = self.LIMIT
        request = self.read_request_line()
        if request is not None:
            self.read_headers(request)
            self.read_body(request)
        return request

    def read_request_line(self) -> Request | None:
        """Read the first line of a request."""
        if not self.rfile.peek(1):  # type: ignore[attr-defined]
            return None
        line = self.read_line()
        if not line:  # A client may send an empty line too much after the body of the request before.
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
        """Read the body of a request, so that the next request on the connection is found behind it."""
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
        self.left = self.LIMIT
        request.body = self.read_chunks() if length is None else self.read_exactly(int(length))

    def read_chunks(self) -> bytes:
        """Read a chunked body and its trailers."""
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
        """Read a line, and return it without its end."""
        line = self.rfile.readline(self.left + 1)
        self.left -= len(line)
        if self.left < 0 or not line.endswith(b"\n"):
            raise BadRequest
        return line.removesuffix(b"\n").removesuffix(b"\r")

    def read_exactly(self, length: int) -> bytes:
        """Read `length` bytes."""
        self.left -= length
        if self.left < 0:
            raise BadRequest
        data = self.rfile.read(length)
        if len(data) < length:
            raise BadRequest
        return data

    def send(self, reply: Reply, *, head_only: bool = False, close: bool = False) -> None:
        """Send a reply."""
        headers = {
            "Date": formatdate(usegmt=True),
            **reply.headers,
            "Content-Length": str(self.content_length(reply)),
            **({"Connection": "close"} if close else {}),
        }
        lines = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        self.wfile.write(head if head_only else head + reply.content)

    def content_length(self, reply: Reply) -> int:
        """Return the `Content-Length` of a reply."""
        return len(reply.content)


Piece = TypeVar("Piece", Book, Parameters, Api, Connection)


class Listener(socketserver.ThreadingTCPServer):
    """Accepts connections, each of which has a thread of its own, and can close them all."""

    allow_reuse_address = True
    request_queue_size = 1024

    def __init__(self, port: int, connection: type[Connection], api: Api) -> None:
        super().__init__(("127.0.0.1", port), connection)
        self.api = api
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own."""
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """End every connection, whatever it is doing; its thread then closes it."""
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class Server:
    """The service on 127.0.0.1, in threads of this process, from entering the context to leaving it.

    Each of `pieces` takes the place of the correct piece that it is a subclass of.
    """

    POLL_S = 0.02

    def __init__(self, *pieces: type, port: int = 0) -> None:
        self._pieces = pieces
        self._port = port
        self.url = ""

    def __enter__(self) -> "Server":
        """Listen and serve; `url` is where."""
        api = self._piece(Api)(self._piece(Book)(), self._piece(Parameters)())
        self._listener = Listener(self._port, self._piece(Connection), api)
        self.url = f"http://127.0.0.1:{self._listener.server_address[1]}"
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(self.POLL_S,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, also if there are open connections, and leave no socket and no thread behind."""
        self._listener.shutdown()
        self._thread.join()
        self._listener.close_connections()
        self._listener.server_close()

    def _piece(self, correct: type[Piece]) -> type[Piece]:
        return next((piece for piece in self._pieces if issubclass(piece, correct)), correct)
