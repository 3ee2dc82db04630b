"""The lifecycle (D1 to D5) as a plain value: what the service must remember, and so answer.

A state never changes. Each call has an expected answer and leads to another state. The random histories are compared
with this model, and so are the answers to concurrent requests.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from contract_tests.suite.calls import Order
from contract_tests.suite.contract import (
    ACQUIRE,
    ACQUIRED,
    ALREADY_EXISTS,
    ASSIGN,
    CANCELED,
    CREATED,
    NO_ORDERS,
    Answer,
    not_active,
)
from contract_tests.suite.rules import expected_answer, operation_of
from contract_tests.suite.transport import Request


@dataclass(frozen=True)
class State:
    """The orders that the service knows, and those of them that are active: at most one per executor."""

    orders: frozenset[Order] = frozenset()
    active: frozenset[Order] = frozenset()

    def known(self, order_id: str) -> Order | None:
        """Return the order with an id; None if the id is unknown."""
        return next((order for order in self.orders if order.order_id == order_id), None)

    def active_of(self, executor_id: str) -> Order | None:
        """Return an executor's active order; None if there is none."""
        return next((order for order in self.active if order.executor_id == executor_id), None)


class Expected(NamedTuple):
    """The answer that a call must get, the order in its profile if it has one, and the state afterwards."""

    answer: Answer
    state: State
    order: Order | None = None


def expected(state: State, request: Request) -> Expected | None:
    """Return what is expected of a request in a state; None unless it is a call with valid parameters."""
    operation = operation_of(request)
    values = expected_answer(operation, request.query).values if operation else {}
    if not values:
        return None
    if operation is ASSIGN:
        return assign(state, Order(**values))
    return acquire(state, **values) if operation is ACQUIRE else cancel(state, **values)


def assign(state: State, order: Order) -> Expected:
    """Assign: a known id is refused. A new order becomes the active one of its executor (D2, D3)."""
    if state.known(order.order_id):
        return Expected(ALREADY_EXISTS, state)
    others = frozenset(other for other in state.active if other.executor_id != order.executor_id)
    return Expected(CREATED, State(state.orders | {order}, others | {order}))


def acquire(state: State, executor_id: str) -> Expected:
    """Acquire: the active order, every time (D4). No later answer depends on whether it was acquired."""
    order = state.active_of(executor_id)
    return Expected(ACQUIRED, state, order) if order else Expected(NO_ORDERS, state)


def cancel(state: State, order_id: str) -> Expected:
    """Cancel: an active order is no longer active. Any other stays as it is (D5)."""
    order = state.known(order_id)
    if order is None or order not in state.active:
        return Expected(not_active(order_id), state)
    return Expected(CANCELED, replace(state, active=state.active - {order}))
