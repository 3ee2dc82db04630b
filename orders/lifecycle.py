"""Assigns, acquires and cancels orders: the rules D1 to D6, applied to sets of calls.

Each caller of `Orders` waits for its own result. Calls that arrive while the database is busy go to it together, as a
set (`orders.storage.sets`). The functions `read` and `write` answer a whole set at once. They are the same for every
kind of database.
"""

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from orders.storage.database import DatabaseURL, check_room, open_sessions
from orders.storage.models import ACTIVE_STATUSES, COLUMNS, ExecutionStatus, rfc3339
from orders.storage.queries import Rows
from orders.storage.sets import Call, CallQueue, Session

Profile = dict[str, str]
Row = dict[str, str | None]


class Orders:
    """The orders in a database."""

    def __init__(self, url: DatabaseURL, *, connections: int = 2) -> None:
        """Open a database for the running event loop. Call `orders.storage.database.prepare` first.

        `connections` is the number of connections to PostgreSQL. SQLite does not use it. Raises CannotOpenDatabase.
        """
        readers, writer = open_sessions(url, connections)
        self._url = url
        self._queries = writer.queries
        self._reads = CallQueue(read, *readers)
        self._writes = CallQueue(write, writer)

    async def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        """Register an order and complete the executor's active one (D2).

        Return False and change nothing if `order_id` is already known (D3).
        """
        return bool(await self._writes.result(Call("assign", order_id, executor_id, zone_id)))

    async def acquire(self, executor_id: str) -> Profile | None:
        """Return the executor's active order as an `order_profile`, or None if there is none.

        The first acquire of an order makes it acquired. Every later acquire returns the same profile and writes
        nothing (D4).
        """
        deadline = self._reads.deadline()
        while True:
            order: Profile | None = await self._reads.result(Call("poll", executor_id=executor_id), deadline)
            if order is None or order["execution_status"] == ExecutionStatus.ACQUIRED:
                return order
            order = await self._writes.result(Call("acquire", order["order_id"]), deadline)
            if order is not None:
                return order
            # Another call has acquired, cancelled or completed the order since it was read.

    async def cancel(self, order_id: str) -> bool:
        """Cancel an active order (D5). Return False and change nothing if there is no such order."""
        return bool(await self._writes.result(Call("cancel", order_id)))

    async def ping(self) -> None:
        """Check that the database answers and can be written. Raises DatabaseUnusable or another error if not.

        This writes only if the last write of this process found the database unusable.
        """
        deadline = self._reads.deadline()
        await self._reads.result(Call("poll"), deadline)
        check_room(self._url)
        if self._writes.failure is not None:
            await self._writes.result(Call("statement", statement=self._queries.write_nothing_new()), deadline)

    async def orders(self, filters: Mapping[str, str], limit: int) -> tuple[int, list[Row]]:
        """Return the number of matching orders, and the `limit` newest of them as rows, the oldest first.

        `filters` maps a column to the value it must have.
        """
        statement = self._queries.newest_orders(filters, limit)
        rows: Rows = await self._reads.result(Call("statement", statement=statement))
        count: int = rows[0][-1] if rows else 0
        return count, [dict(zip(COLUMNS, row, strict=False)) for row in reversed(rows)]

    async def add_orders(self, rows: list[Row]) -> tuple[list[str], list[str]]:
        """Store new orders as they are, in any state: all of them or none.

        If none, return what is in the way: the `order_id`s that are known already, and the executors that would have
        two active orders. The orders themselves must not be in each other's way.
        """
        deadline = self._writes.deadline()
        order_ids = [row["order_id"] for row in rows]
        executor_ids = [row["executor_id"] for row in rows if row["execution_status"] in ACTIVE_STATUSES]
        # A list must not be empty. No executor has the id "" (D8).
        statement = self._queries.add_orders(rows=rows, order_ids=order_ids, executor_ids=executor_ids or [""])
        while not await self._writes.result(Call("statement", statement=statement), deadline):
            known, active = [
                await self._reads.result(Call("statement", statement=query), deadline)
                for query in (
                    self._queries.known_orders(order_ids=order_ids),
                    self._queries.active_orders(executor_ids=executor_ids),
                )
            ]
            if known or active:
                return [order_id for (order_id,) in known], [*_by("executor_id", active)]
            # Another call has removed the obstacle since.
        return [], []

    async def delete_orders(self) -> None:
        """Delete all orders, active or not."""
        await self._writes.result(Call("statement", statement=self._queries.delete_orders()))

    async def close(self) -> None:
        """Answer the calls that wait, and close the database."""
        # The writes close first, because an acquire may read again after its write.
        await self._writes.close()
        await self._reads.close()


def read(session: Session, calls: list[Call]) -> list[Any]:
    """Run a set of calls that only read; return their results in the order of the calls."""
    active, *others = session.trip(
        session.queries.active_orders(executor_ids=[call.executor_id for call in calls if call.kind == "poll"]),
        *(call.statement for call in calls if call.kind == "statement"),
    )
    orders = _by("executor_id", active)
    results = iter(others)
    return [orders.get(call.executor_id) if call.kind == "poll" else next(results) for call in calls]


def write(session: Session, calls: list[Call]) -> list[Any]:
    """Run a set of calls that change orders as one transaction; return their results in the order of the calls.

    The transaction takes two trips to the database. Its statements have a fixed order: first the cancels, then the
    acquires, then the assigns. The result is the same as if the calls had run one by one in that order.

    No two calls of a set name the same order or executor. But a cancel does not name the executor of its order. So it
    may share a set with an assign to that executor. In the fixed order, the cancel comes first.

    On PostgreSQL, other processes write at the same time, so each statement has a condition of its own. The second trip
    relies on only one result of the first: `known`. If another process assigns a new order between the trips, the
    unique index refuses the whole set.
    """
    queries, now = session.queries, utc_now()

    def ids(kind: str) -> list[str]:
        return [call.order_id for call in calls if call.kind == kind]

    _, cancelled, acquired, known, *others = session.trip(
        queries.begin,
        queries.cancel_orders(order_ids=ids("cancel")),
        queries.acquire_orders(order_ids=ids("acquire"), now=now),
        queries.known_orders(order_ids=ids("assign")),
        *(call.statement for call in calls if call.kind == "statement"),
    )
    acquired_orders = _by("order_id", acquired)
    cancelled_ids, known_ids = ({order_id for (order_id,) in rows} for rows in (cancelled, known))
    results = iter(others)
    new = [call for call in calls if call.kind == "assign" and call.order_id not in known_ids]
    session.trip(
        queries.complete_orders(executor_ids=[call.executor_id for call in new]),
        queries.insert_orders(rows=[_new_order(call, now) for call in new]),
        queries.commit,
    )

    def result(call: Call) -> Any:
        match call.kind:
            case "assign":
                return call.order_id not in known_ids
            case "acquire":
                return acquired_orders.get(call.order_id)
            case "cancel":
                return call.order_id in cancelled_ids
            case "statement":
                return next(results)

    return [result(call) for call in calls]


def _by(column: str, rows: Rows) -> dict[Any, Row]:
    orders: list[Row] = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    return {order[column]: order for order in orders}


def _new_order(call: Call, now: str) -> Row:
    values = (new_id(), call.order_id, call.executor_id, call.zone_id, ExecutionStatus.ASSIGNED.value, now, None)
    return dict(zip(COLUMNS, values, strict=True))


def new_id() -> str:
    """Return a new UUID of version 7 (RFC 9562 §5.7).

    It begins with the time in milliseconds, so new orders are close together in the index, however large it is. There
    are 48 bits for it. A clock that is set to a time before 1970 counts as 1970.
    """
    milliseconds, random = max(0, time.time_ns() // 1_000_000) % (1 << 48), int.from_bytes(os.urandom(10))
    version, variant = 7 << 76, 0b10 << 62
    return str(UUID(int=milliseconds << 80 | version | random & ~(0xF << 76 | 0b11 << 62) | variant))


def utc_now() -> str:
    """Return the current time in the format of `order_profile`."""
    return rfc3339(datetime.now(UTC))
