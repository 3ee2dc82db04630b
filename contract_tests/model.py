"""What the service should remember, and so answer: the lifecycle (D1 to D5) as a plain value.

A state is never changed; each operation returns the message that is due and the state after it. That makes it the
model of the random histories, and of the search for an order in which concurrent requests could have been carried out.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from contract_tests.rules import ACQUIRED, ALREADY_EXISTS, CANCELED, CREATED, NO_ORDERS, not_active
from contract_tests.service import Order


@dataclass(frozen=True)
class State:
    """The orders that the service knows, and of each executor the active one."""

    orders: frozenset[Order] = frozenset()
    active: frozenset[Order] = frozenset()

    def known(self, order_id: str) -> Order | None:
        """Return the order with an id, if it is known."""
        return next((order for order in self.orders if order.order_id == order_id), None)

    def active_of(self, executor_id: str) -> Order | None:
        """Return an executor's active order, if there is one."""
        return next((order for order in self.active if order.executor_id == executor_id), None)


class Due(NamedTuple):
    """The message that is due, the order in the profile if there is one, and the state afterwards."""

    message: str
    state: State
    order: Order | None = None


def assign(state: State, order: Order) -> Due:
    """Assign: a known id is refused, whoever asks; a new order takes its executor's place (D2, D3)."""
    if state.known(order.order_id):
        return Due(ALREADY_EXISTS, state)
    active = state.active - {state.active_of(order.executor_id)} | {order}
    return Due(CREATED, State(state.orders | {order}, frozenset(one for one in active if one is not None)))


def acquire(state: State, executor_id: str) -> Due:
    """Acquire: the active order, every time (D4). That it becomes `acquired` makes no difference to later answers."""
    order = state.active_of(executor_id)
    return Due(ACQUIRED, state, order) if order else Due(NO_ORDERS, state)


def cancel(state: State, order_id: str) -> Due:
    """Cancel: an active order is no longer active; any other is left as it is (D5)."""
    order = state.known(order_id)
    if order is None or order not in state.active:
        return Due(not_active(order_id), state)
    return Due(CANCELED, replace(state, active=state.active - {order}))
