"""Calls the three operations as a client does, and sends raw bytes.

The messages are written out here, not imported from the server, so a changed message fails the tests.
"""

import socket
from typing import Self

import httpx


class Client:
    """A client of the three operations. Several threads may use it."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=60, trust_env=False, verify=False)

    def assign(self, order_id: str, executor_id: str, zone_id: str = "zone") -> httpx.Response:
        """Assign an order."""
        return self.http.put(
            "/orders/assign", params={"order_id": order_id, "executor_id": executor_id, "zone_id": zone_id}
        )

    def acquire(self, executor_id: str) -> httpx.Response:
        """Acquire an executor's order."""
        return self.http.get("/order/acquire", params={"executor_id": executor_id})

    def cancel(self, order_id: str) -> httpx.Response:
        """Cancel an order."""
        return self.http.post("/order/cancel", params={"order_id": order_id})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()


def message(response: httpx.Response) -> str:
    """Return the message of a response."""
    text: str = response.json()["message"]
    return text


CREATED = "Successfully created"
ALREADY_EXISTS = "AssignedOrder with provided orderId already exists"
ACQUIRED = "Successfully acquired"
NO_ORDERS = "There are no orders assigned to you"
CANCELED = "Successfully canceled"


def not_active(order_id: str) -> str:
    """Return the message of a cancel that finds no active order."""
    return f"AssignedOrder with OrderId {order_id} does not exist or has already been canceled"


def send_raw(connection: socket.socket, data: bytes) -> bytes:
    """Send bytes on a connection, and close it; return everything that the server sent back."""
    with connection:
        connection.sendall(data)
        return receive_all(connection)


def receive_all(connection: socket.socket) -> bytes:
    """Return everything that the server sends until it closes the connection."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received
