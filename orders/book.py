"""What the service does: the book of orders, as plain synchronous calls.

Each call is the body of one transaction, which the store opens and commits (`orders.database`): either all of its
writes happen or none. A call reads first, with one query, and writes last, so that a read-only book can answer
whatever needs no write.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from peewee import Database, Node

from orders import queries
from orders.models import COLUMNS, ExecutionStatus
from orders.queries import CompiledQuery

Profile = dict[str, str]


class WriteNeeded(Exception):
    """A read-only book was asked for something that has to be written."""


class OrderBook:
    """The orders in a database, through the calling thread's connection to it."""

    def __init__(self, database: Database, *, read_only: bool = False) -> None:
        """Compile the queries; a `read_only` book raises `WriteNeeded` instead of writing."""

        def compiled(query: Node) -> CompiledQuery:
            return CompiledQuery(database, query)

        self._read_only = read_only
        self._known_order = compiled(queries.KNOWN_ORDER)
        self._active_order = compiled(queries.ACTIVE_ORDER)
        self._active_order_of_executor = compiled(queries.ACTIVE_ORDER_OF_EXECUTOR)
        self._insert_order = compiled(queries.INSERT_ORDER)
        self._complete_active_order_of_executor = compiled(queries.COMPLETE_ACTIVE_ORDER_OF_EXECUTOR)
        self._acquire_order = compiled(queries.ACQUIRE_ORDER)
        self._cancel_active_order = compiled(queries.CANCEL_ACTIVE_ORDER)
        self._any_order = compiled(queries.ANY_ORDER)

    def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        """Register an order and complete the executor's active one (D2).

        Return False, having changed nothing, if `order_id` is known already (D3).
        """
        if self._known_order.execute(order_id=order_id).fetchone():
            return False
        self._write(self._complete_active_order_of_executor, executor_id=executor_id)
        self._write(
            self._insert_order,
            assigned_order_id=str(uuid4()),
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
        nothing (D4).
        """
        row = self._active_order_of_executor.execute(executor_id=executor_id).fetchone()
        if row is None:
            return None
        profile: Profile = dict(zip(COLUMNS, row, strict=True))
        if profile["execution_status"] == ExecutionStatus.ASSIGNED:
            # A clock that was set back must not make an order acquired before it was assigned.
            acquire_time = max(utc_now(), profile["assign_time"])
            self._write(self._acquire_order, order_id=profile["order_id"], acquire_time=acquire_time)
            profile |= {"execution_status": ExecutionStatus.ACQUIRED.value, "acquire_time": acquire_time}
        return profile

    def cancel(self, order_id: str) -> bool:
        """Cancel an active order (D5); return False, having changed nothing, if there is no such order."""
        if not self._active_order.execute(order_id=order_id).fetchone():
            return False
        self._write(self._cancel_active_order, order_id=order_id)
        return True

    def check(self) -> None:
        """Read from the database, to see that it answers."""
        self._any_order.execute().fetchone()

    def _write(self, query: CompiledQuery, **parameters: Any) -> None:
        if self._read_only:
            raise WriteNeeded
        query.execute(**parameters)


def utc_now() -> str:
    """Return the time as RFC 3339 text in UTC, always with microseconds, so that it sorts as it passes."""
    return datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
