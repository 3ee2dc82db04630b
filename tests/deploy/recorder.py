"""A server that records requests, and then answers, closes the connection, or stays silent."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Recorder:
    """A server on 127.0.0.1 and a free port, for requests without a body.

    `requests` has the requests received so far, and `connections` is the number of connections so far.
    """

    def __init__(self, then: Literal["answer", "cut", "stay silent"]) -> None:
        """Start to listen. `then` says what follows each request."""
        self.requests: list[bytes] = []
        self.connections = 0
        self._then = then
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self._start(self._accept)

    def close(self) -> None:
        """Close all connections and stop listening."""
        for connection in [self._listener, *self._open]:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for connection in [self._listener, *self._open]:
            connection.close()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            self._start(lambda connection=connection: self._serve(connection))  # type: ignore[misc]

    def _serve(self, connection: socket.socket) -> None:
        received = b""
        with suppress(OSError):
            while data := connection.recv(65536):
                received += data
                while b"\r\n\r\n" in received:
                    head, _, received = received.partition(b"\r\n\r\n")
                    self.requests.append(head)
                    if self._then == "cut":
                        connection.shutdown(socket.SHUT_RDWR)
                        return
                    if self._then == "answer":
                        connection.sendall(ANSWER)
