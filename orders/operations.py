"""Runs the operations of the contract, and turns each result into a status and a message.

Each function has the name of an `operationId`. Its arguments after `orders` are the operation's parameters.
`orders.http.app` compares the names and the arguments with the contract when the server starts.
"""

from orders.http.responses import Response, json_response, message_response
from orders.lifecycle import Orders

CREATED = message_response(200, "Successfully created")
ALREADY_EXISTS = message_response(400, "AssignedOrder with provided orderId already exists")
NO_ORDERS = message_response(200, "There are no orders assigned to you")
CANCELED = message_response(200, "Successfully canceled")


async def assign_order(orders: Orders, order_id: str, executor_id: str, zone_id: str) -> Response:
    """Register an order that was assigned to an executor."""
    return CREATED if await orders.assign(order_id, executor_id, zone_id) else ALREADY_EXISTS


async def acquire_order(orders: Orders, executor_id: str) -> Response:
    """Give an executor its active order."""
    profile = await orders.acquire(executor_id)
    if profile is None:
        return NO_ORDERS
    return json_response(200, {"message": "Successfully acquired", "order_profile": profile})


async def cancel_order(orders: Orders, order_id: str) -> Response:
    """Cancel an order."""
    if await orders.cancel(order_id):
        return CANCELED
    return message_response(200, f"AssignedOrder with OrderId {order_id} does not exist or has already been canceled")


OPERATIONS = {function.__name__: function for function in (assign_order, acquire_order, cancel_order)}
