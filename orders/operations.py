"""The operations of the contract, one function each. A function runs the operation and returns its result.

Contract and code use the same names. A function has the name of an `operationId`, and its arguments after `orders` are
the operation's parameters. A result has the name of a schema. Its fields are properties of the answer or values in its
message. `orders.conformance` compares them when the server starts.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from orders.lifecycle import Orders, Profile


class OrderCreated(NamedTuple):
    """The order is registered."""


class OrderAlreadyExists(NamedTuple):
    """The `order_id` is known already. Nothing has changed (D3)."""


class OrderAcquired(NamedTuple):
    """The executor has an active order."""

    order_profile: Profile


class NoOrders(NamedTuple):
    """The executor has no active order."""


class OrderCanceled(NamedTuple):
    """The order was active and is now cancelled."""


class OrderNotActive(NamedTuple):
    """The order is not active. Nothing has changed."""

    order_id: str


Result = OrderCreated | OrderAlreadyExists | OrderAcquired | NoOrders | OrderCanceled | OrderNotActive


async def assign_order(
    orders: Orders, order_id: str, executor_id: str, zone_id: str
) -> OrderCreated | OrderAlreadyExists:
    """Register an order that was assigned to an executor."""
    is_new = await orders.assign(order_id, executor_id, zone_id)
    return OrderCreated() if is_new else OrderAlreadyExists()


async def acquire_order(orders: Orders, executor_id: str) -> OrderAcquired | NoOrders:
    """Give an executor its active order."""
    profile = await orders.acquire(executor_id)
    return NoOrders() if profile is None else OrderAcquired(profile)


async def cancel_order(orders: Orders, order_id: str) -> OrderCanceled | OrderNotActive:
    """Cancel an order."""
    was_active = await orders.cancel(order_id)
    return OrderCanceled() if was_active else OrderNotActive(order_id)


OPERATIONS: dict[str, Callable[..., Awaitable[Result]]] = {
    function.__name__: function for function in (assign_order, acquire_order, cancel_order)
}
