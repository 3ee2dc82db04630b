"""The store: all orders in memory, and the rules of their lifecycle (D1 to D6)."""

import threading
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

ASSIGNED = "assigned"
ACQUIRED = "acquired"
COMPLETED = "completed"
CANCELLED = "cancelled"

Profile = dict[str, Any]


@dataclass
class Order:
    """An order. Its fields are the properties of an `order_profile`, in the same order (D6)."""

    assigned_order_id: str
    order_id: str
    executor_id: str
    zone_id: str
    execution_status: str
    assign_time: str
    acquire_time: str | None = None

    @property
    def is_active(self) -> bool:
        """Whether the order is assigned or acquired (D1)."""
        return self.execution_status in (ASSIGNED, ACQUIRED)


class Store:
    """Keeps all orders, and each executor's active order (D2). The lock makes each operation one step (D12)."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.orders: dict[str, Order] = {}
        self.active: dict[str, Order] = {}

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        """Register an order. Return False, and change nothing, if `order_id` is known (D3)."""
        with self.lock:
            if self.find(order_id):
                return False
            self.register(self.new_order(order_id, executor_id, zone_id))
            return True

    def acquire(self, executor_id: str) -> Profile | None:
        """Return the executor's active order, or None; the first acquire makes the order acquired (D4)."""
        with self.lock:
            order = self.active_order(executor_id)
            if order is None:
                return None
            if order.execution_status == ASSIGNED:
                self.mark_acquired(order)
            return self.profile(order)

    def cancel(self, order_id: str) -> bool:
        """Cancel an active order (D5). Return False if there is no such order."""
        with self.lock:
            order = self.find(order_id)
            if order is None or not order.is_active:
                return False
            self.end(order, CANCELLED)
            return True

    def find(self, order_id: str) -> Order | None:
        """Return a known order, active or not."""
        return self.orders.get(self.key(order_id))

    def active_order(self, executor_id: str) -> Order | None:
        """Return the executor's active order."""
        return self.active.get(self.key(executor_id))

    def key(self, identifier: str) -> str:
        """Return the form in which identifiers are compared: as they are (D7)."""
        return identifier

    def new_order(self, order_id: str, executor_id: str, zone_id: str) -> Order:
        """Return a new order. It is not registered yet."""
        return Order(self.new_uuid(), order_id, executor_id, zone_id, ASSIGNED, self.now())

    def new_uuid(self) -> str:
        """Return an `assigned_order_id`."""
        return str(uuid4())

    def now(self) -> str:
        """Return the current time, as profiles show it."""
        return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def register(self, order: Order) -> None:
        """Complete the active order of the executor, if there is one, and put a new order in its place."""
        if active := self.active_order(order.executor_id):
            self.end(active, COMPLETED)
        self.add(order)

    def add(self, order: Order) -> None:
        """Make an order known, and the active one of its executor."""
        self.orders[self.key(order.order_id)] = order
        self.active[self.key(order.executor_id)] = order

    def mark_acquired(self, order: Order) -> None:
        """Make an order acquired. Even if the clock was set back, `acquire_time` is not before `assign_time`."""
        order.execution_status = ACQUIRED
        order.acquire_time = max(self.now(), order.assign_time)

    def end(self, order: Order, status: str) -> None:
        """Give an order a final status, and free its executor."""
        order.execution_status = status
        if self.active_order(order.executor_id) is order:
            del self.active[self.key(order.executor_id)]

    def profile(self, order: Order) -> Profile:
        """Return an order as an `order_profile`."""
        return asdict(order)
