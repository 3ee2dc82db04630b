"""A correct implementation of the API (D1 to D12): independent of `orders`, in memory, on the standard library alone.

It has four components. A subclass of one component makes a server with one fault.

- `Connection` speaks HTTP on a socket.
- `Api` turns a request into a response: routes, statuses, messages.
- `Parameters` reads and checks the parameters of a request.
- `Store` keeps the orders, and knows what assign, acquire and cancel do.

`Server` runs them in threads of this process.
"""

from tests.faulty.implementation.api import ACQUIRE_PATH, ASSIGN_PATH, CANCEL_PATH, Answer, Api, Operation
from tests.faulty.implementation.connection import Connection
from tests.faulty.implementation.messages import Request, Response
from tests.faulty.implementation.parameters import InvalidParameter, Parameters
from tests.faulty.implementation.server import Component, Server
from tests.faulty.implementation.store import ACQUIRED, ASSIGNED, CANCELLED, COMPLETED, Order, Profile, Store

__all__ = [
    "ACQUIRED",
    "ACQUIRE_PATH",
    "ASSIGNED",
    "ASSIGN_PATH",
    "CANCELLED",
    "CANCEL_PATH",
    "COMPLETED",
    "Answer",
    "Api",
    "Component",
    "Connection",
    "InvalidParameter",
    "Operation",
    "Order",
    "Parameters",
    "Profile",
    "Request",
    "Response",
    "Server",
    "Store",
]
