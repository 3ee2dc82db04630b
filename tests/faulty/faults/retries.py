"""Faults that appear when an answer is lost or a request is cut off."""

import re
import select
import socket

from tests.faulty.catalogue import Faults
from tests.faulty.faults.helpers import PAUSE_S, query_fields
from tests.faulty.implementation import ACQUIRE_PATH, ASSIGN_PATH, CANCEL_PATH, COMPLETED, Connection, Request

faults = Faults()


class LostClient(Connection):
    """Calls `lost` instead of sending an answer whose client has gone."""

    def respond(self, request: Request) -> None:
        response = self.answer(request)
        if self.is_client_gone():
            with self.api.store.lock:
                self.lost(request.path, query_fields(request))
            raise ConnectionAbortedError
        self.send(response, head_only=request.method == "HEAD", close=not request.keep_alive)

    def is_client_gone(self) -> bool:
        """Return whether the client closes or resets the connection within PAUSE_S."""
        readable, _, _ = select.select([self.connection], [], [], PAUSE_S)
        try:
            return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)
        except ConnectionError:
            return True

    def lost(self, path: str, given: dict[str, str]) -> None:
        """Do something that a lost client must not cause."""


@faults.breaks("RETRY-1")
class LostAssignIsUndone(LostClient):
    """If the client of an assign has gone, the order is undone but stays known."""

    def lost(self, path: str, given: dict[str, str]) -> None:
        if path == ASSIGN_PATH and (order := self.api.store.find(given["order_id"])):
            self.api.store.end(order, COMPLETED)


@faults.breaks("RETRY-2")
class LostAcquireIsCompleted(LostClient):
    """If the client of an acquire has gone, the order is completed."""

    def lost(self, path: str, given: dict[str, str]) -> None:
        if path == ACQUIRE_PATH and (order := self.api.store.active_order(given["executor_id"])):
            self.api.store.end(order, COMPLETED)


@faults.breaks("RETRY-3")
class LostCancelIsHalfUndone(LostClient):
    """If the client of a cancel has gone, the executor gets the cancelled order back."""

    def lost(self, path: str, given: dict[str, str]) -> None:
        if path == CANCEL_PATH and (order := self.api.store.find(given["order_id"])):
            self.api.store.active[order.executor_id] = order


@faults.breaks("RETRY-4")
class CutOffLineIsEnough(Connection):
    """A first line that is cut off is executed as far as it goes."""

    REQUEST_LINE = re.compile(rb"([A-Z]+) ([^\x00-\x20\x7f]+)(?: HTTP/1\.([01]))?")

    def read_line(self) -> bytes:
        return self.rfile.readline(self.LIMIT).rstrip(b"\r\n")
