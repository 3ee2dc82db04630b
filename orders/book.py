"""What the service does: the book of orders, as plain synchronous calls.

A call reads first, with one query, and writes last. The store (`orders.store`) makes its writes one transaction:
all of them happen or none. Somebody else may write between the two, so no write relies on what was read: it either
has a condition of its own or is refused by a unique index, and the store runs the call that lost once more.
"""

import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from peewee import Database, Node

from orders import queries
from orders.models import COLUMNS, ExecutionStatus
from orders.queries import CompiledQuery

Profile = dict[str, str]
Row = dict[str, str | None]


class Collision(Exception):
    """What a call had read was no longer so when it came to write; it has changed nothing."""


class OrderBook:
    """The orders in a database."""

    def __init__(self, database: Database, *, before_write: Callable[[], None] = lambda: None) -> None:
        """Compile the queries. `before_write` is called before each write: it may begin a transaction, or raise."""

        def compiled(query: Node) -> CompiledQuery:
            return CompiledQuery(database, query)

        self._database = database
        self._before_write = before_write
        self._known_order = compiled(queries.KNOWN_ORDER)
        self._active_order = compiled(queries.ACTIVE_ORDER)
        self._active_order_of_executor = compiled(queries.ACTIVE_ORDER_OF_EXECUTOR)
        self._insert_order = compiled(queries.INSERT_ORDER)
        self._complete_active_order_of_executor = compiled(queries.COMPLETE_ACTIVE_ORDER_OF_EXECUTOR)
        self._acquire_order = compiled(queries.ACQUIRE_ORDER)
        self._cancel_active_order = compiled(queries.CANCEL_ACTIVE_ORDER)
        self._any_order = compiled(queries.ANY_ORDER)
        self._delete_orders = compiled(queries.DELETE_ORDERS)

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        """Register an order and complete the executor's active one (D2).

        Return False, having changed nothing, if `order_id` is known already (D3).
        """
        if self._known_order.execute(order_id=order_id).fetchone():
            return False
        self._write(self._complete_active_order_of_executor, executor_id=executor_id)
        self._write(
            self._insert_order,
            assigned_order_id=new_id(),
            order_id=order_id,
            executor_id=executor_id,
            zone_id=zone_id,
            execution_status=ExecutionStatus.ASSIGNED.value,
            assign_time=utc_now(),
            acquire_time=None,
        )
        return True

    def acquire(self, executor_id: str) -> Profile | None:
        """Return the executor's active order as an `order_profile`, or None if there is none.

        The first acquire of an order makes it acquired; every later one returns the same profile and writes
        nothing (D4). Raises Collision.
        """
        row = self._active_order_of_executor.execute(executor_id=executor_id).fetchone()
        if row is None:
            return None
        profile: Profile = dict(zip(COLUMNS, row, strict=True))
        if profile["execution_status"] == ExecutionStatus.ASSIGNED:
            # A clock that was set back must not make an order acquired before it was assigned.
            acquire_time = max(utc_now(), profile["assign_time"])
            if not self._write(self._acquire_order, order_id=profile["order_id"], acquire_time=acquire_time):
                raise Collision
            profile |= {"execution_status": ExecutionStatus.ACQUIRED.value, "acquire_time": acquire_time}
        return profile

    def cancel(self, order_id: str) -> bool:
        """Cancel an active order (D5); return False, having changed nothing, if there is no such order."""
        if not self._active_order.execute(order_id=order_id).fetchone():
            return False
        return self._write(self._cancel_active_order, order_id=order_id) == 1

    def check(self) -> None:
        """Read from the database, to see that it answers."""
        self._any_order.execute().fetchone()

    def orders(self, filters: Mapping[str, str], limit: int) -> tuple[int, list[Row]]:
        """Return how many orders there are, and the `limit` newest of them as rows, the oldest first.

        `filters` has the value of each column that is asked for.
        """
        rows = CompiledQuery(self._database, queries.newest_orders(filters, limit)).execute().fetchall()
        count: int = rows[0][-1] if rows else 0
        return count, [dict(zip(COLUMNS, row, strict=False)) for row in reversed(rows)]

    def delete_orders(self) -> None:
        """Forget all orders, active or not."""
        self._write(self._delete_orders)

    def _write(self, query: CompiledQuery, **parameters: Any) -> int:
        """Execute a query that writes; return how many rows it changed."""
        self._before_write()
        changed: int = query.execute(**parameters).rowcount
        return changed


def new_id() -> str:
    """Return a new UUID of version 7 (RFC 9562 §5.7).

    It begins with the time, in milliseconds, so that new orders stand together in the index, however many there are.
    """
    random = int.from_bytes(os.urandom(10))
    milliseconds = time.time_ns() // 1_000_000
    version, variant = 7, 0b10
    return str(
        UUID(int=milliseconds << 80 | version << 76 | (random >> 68) << 64 | variant << 62 | random & (1 << 62) - 1)
    )


def utc_now() -> str:
    """Return the time as `order_profile` has it."""
    return rfc3339(datetime.now(UTC))


def rfc3339(moment: datetime) -> str:
    """Return a time as RFC 3339 text in UTC, always with microseconds, so that texts sort as times do."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
