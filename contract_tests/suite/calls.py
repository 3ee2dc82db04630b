"""The calls of the API: an order, and the requests that assign, acquire and cancel it."""

from dataclasses import dataclass

from contract_tests.suite.contract import ACQUIRE, ASSIGN, CANCEL, Operation
from contract_tests.suite.transport import Request, query_string


@dataclass(frozen=True)
class Order:
    """An order, as it is assigned."""

    order_id: str
    executor_id: str
    zone_id: str


def request_to(operation: Operation, query: str = "") -> Request:
    """Return a call of an operation with any query string."""
    return Request(operation.method, operation.path, query)


def assign_request(order: Order) -> Request:
    """Return the request that assigns an order."""
    return request_to(ASSIGN, query_string((name, getattr(order, name)) for name in ASSIGN.parameters))


def acquire_request(executor_id: str) -> Request:
    """Return the request that acquires an executor's order."""
    return request_to(ACQUIRE, query_string([("executor_id", executor_id)]))


def cancel_request(order_id: str) -> Request:
    """Return the request that cancels an order."""
    return request_to(CANCEL, query_string([("order_id", order_id)]))
