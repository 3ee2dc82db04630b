"""Clients of all manners: patient and slow ones, ones that pipeline, that hang up, or that do not read."""

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from typing import BinaryIO

from contract_tests.suite.transport import TRANSPORT_ERRORS, Request, Response, Step, explain
from tests.chaos.history import Histories, History

CLIENTS = 12
ANSWER_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 120.0
PAUSES_S = (0.0, 0.0, 0.001, 0.01, 0.03)
PAUSE_AFTER_ERROR_S = 0.1
# A request with a large response, several times, which a client that does not read leaves in the server's hands.
LARGE = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: orders\r\n\r\n" * 4

Address = tuple[str, int]


class Load:
    """Threads that call the operations until `stop`. They record in `histories` what they sent and what came back."""

    def __init__(self, address: Callable[[Random], Address], seed: str) -> None:
        """Start the clients. `address` returns the address of a server, whenever a client connects."""
        self.histories = Histories()
        self._stopping = threading.Event()
        self._clients = [RandomClient(address, Random(f"{seed} client {number}")) for number in range(CLIENTS)]
        self._threads = [threading.Thread(target=self._run, args=(client,), daemon=True) for client in self._clients]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop the clients and wait for them."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(STOP_TIMEOUT_S)
            assert not thread.is_alive(), "a client is still waiting for an answer"

    def _run(self, client: "RandomClient") -> None:
        random = client.random
        while not self._stopping.is_set():
            histories = [self.histories.choose(random) for _ in range(random.choice((1, 1, 1, 1, 2, 4)))]
            client.call([(history, history.request(random)) for history in histories])
            time.sleep(random.choice(PAUSES_S))
        client.close()


class RandomClient:
    """A client with at most one connection at a time."""

    def __init__(self, address: Callable[[Random], Address], random: Random) -> None:
        self.random = random
        self._address = address
        self._connection: socket.socket | None = None
        self._stream: BinaryIO | None = None

    def call(self, calls: Sequence[tuple[History, Request]]) -> None:
        """Send requests in a random manner, pipelined if there are several. Add a step to the history of each."""
        manner = self.random.choices(MANNERS, WEIGHTS)[0]
        try:
            connection = self._connected()
        except OSError:
            # Nobody listens, and nothing was sent.
            time.sleep(0.02)
            return
        started = time.monotonic()
        answered = 0
        reason = "not read: the connection was reset"
        try:
            manner(self, connection, [encode(request) for _, request in calls])
            while answered < len(calls) and self._stream is not None:
                response = read_response(self._stream)
                history, request = calls[answered]
                history.add(Step(request, response, "", started, time.monotonic()))
                answered += 1
                if response.status == 500:
                    # Otherwise, most requests of a run would be sent while the database is away.
                    time.sleep(PAUSE_AFTER_ERROR_S)
                if answered == len(calls) and response.header("Connection") == "close":
                    self.close()
        except TRANSPORT_ERRORS as error:
            self.close()
            reason = explain(error)
        if manner is not RandomClient._cut_off:
            for history, request in calls[answered:]:
                history.add(Step(request, None, reason, started, time.monotonic()))
        if self.random.random() < 0.3:
            self.close()

    def close(self) -> None:
        """Close the connection, if there is one."""
        for thing in (self._stream, self._connection):
            if thing is not None:
                with suppress(OSError):
                    thing.close()
        self._stream = self._connection = None

    def _connected(self) -> socket.socket:
        if self._connection is None:
            self._connection = socket.create_connection(self._address(self.random), ANSWER_TIMEOUT_S)
            self._stream = self._connection.makefile("rb")
        return self._connection

    def _reset(self, connection: socket.socket) -> None:
        # A linger time of 0 makes close() send a reset.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    # Manners of sending. After a reset, no answer is read.

    def _plainly(self, connection: socket.socket, data: Sequence[bytes]) -> None:
        connection.sendall(b"".join(data))

    def _slowly(self, connection: socket.socket, data: Sequence[bytes]) -> None:
        whole = b"".join(data)
        middle = self.random.randrange(len(whole))
        for part in (whole[:middle], whole[middle:-1], whole[-1:]):
            connection.sendall(part)
            time.sleep(self.random.choice((0.001, 0.05, 0.3)))

    def _and_reset(self, connection: socket.socket, data: Sequence[bytes]) -> None:
        connection.sendall(b"".join(data))
        time.sleep(self.random.choice((0.0, 0.001, 0.003, 0.01, 0.1)))
        self._reset(connection)

    def _unread(self, connection: socket.socket, data: Sequence[bytes]) -> None:
        connection.sendall(b"".join(self.random.choice(([*data, LARGE], [LARGE, *data]))))
        time.sleep(self.random.choice((0.1, 1.0, 2.0)))
        self._reset(connection)

    def _cut_off(self, connection: socket.socket, data: Sequence[bytes]) -> None:
        # No request arrives as a whole, so none may have an effect. The histories do not have them.
        connection.sendall(data[0][: self.random.randrange(len(data[0]))])
        time.sleep(self.random.choice((0.0, 0.01)))
        self._reset(connection)


MANNERS = (
    RandomClient._plainly,
    RandomClient._slowly,
    RandomClient._and_reset,
    RandomClient._unread,
    RandomClient._cut_off,
)
WEIGHTS = (80, 5, 8, 1, 6)


def encode(request: Request) -> bytes:
    """Return the bytes of a request."""
    return f"{request.method} {request.path_and_query} HTTP/1.1\r\nHost: orders\r\n\r\n".encode()


def read_response(stream: BinaryIO) -> Response:
    """Read one response of several from a connection. Raises one of TRANSPORT_ERRORS if there is none.

    (`http.client` may read a part of the next response as well.)
    """
    status_line = stream.readline().split()
    if len(status_line) < 2:
        raise ConnectionResetError
    headers = http.client.parse_headers(stream)
    length = int(headers.get("Content-Length", ""))
    body = stream.read(length)
    if len(body) < length:
        raise ConnectionResetError
    return Response(int(status_line[1]), tuple(headers.items()), body)
