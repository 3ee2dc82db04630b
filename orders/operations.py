"""The operations of the contract, by their `operationId`: what the book says becomes a status and a message.

A function's arguments after the book are the operation's parameters. `orders.app` compares both with the contract
when the server starts.
"""

from orders.book import OrderBook
from orders.responses import Response, json_response, message_response

CREATED = message_response(200, "Successfully created")
ALREADY_EXISTS = message_response(400, "AssignedOrder with provided orderId already exists")
NO_ORDERS = message_response(200, "There are no orders assigned to you")
CANCELED = message_response(200, "Successfully canceled")


def assign_order(book: OrderBook, order_id: str, executor_id: str, zone_id: str) -> Response:
    """Register an order that was assigned to an executor."""
    return CREATED if book.assign(order_id, executor_id, zone_id) else ALREADY_EXISTS


def acquire_order(book: OrderBook, executor_id: str) -> Response:
    """Give an executor the order assigned to them."""
    profile = book.acquire(executor_id)
    if profile is None:
        return NO_ORDERS
    return json_response(200, {"message": "Successfully acquired", "order_profile": profile})


def cancel_order(book: OrderBook, order_id: str) -> Response:
    """Cancel an order."""
    if book.cancel(order_id):
        return CANCELED
    return message_response(200, f"AssignedOrder with OrderId {order_id} does not exist or has already been canceled")


OPERATIONS = {function.__name__: function for function in (assign_order, acquire_order, cancel_order)}
