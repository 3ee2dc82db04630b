"""What the service does: the rules D1 to D6, for sets of calls.

A call waits here for its result. Calls that arrive while the database is busy go to it together (`orders.sets`), and
`read` and `write` below answer a whole set at once. They are the same for every kind of database.
"""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

from orders.models import COLUMNS, ExecutionStatus
from orders.queries import Queries, Statement
from orders.sets import Call

Profile = dict[str, str]
Row = dict[str, str | None]
Rows = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Poll(Call):
    """Look for the active order of an executor; the result is its row, or None."""

    executor_id: str


@dataclass(frozen=True, slots=True)
class Find(Call):
    """Look for the newest orders; the result is their rows, each with the number of all of them as a last column."""

    filters: Mapping[str, str]
    limit: int


@dataclass(frozen=True, slots=True)
class Assign(Call):
    """Register an order; the result is whether it was new."""

    order_id: str
    executor_id: str
    zone_id: str

    def keys(self) -> Iterable[object]:
        """Return the order and the executor."""
        return ("order", self.order_id), ("executor", self.executor_id)


@dataclass(frozen=True, slots=True)
class Acquire(Call):
    """Make an assigned order acquired; the result is its row, or None if it is not assigned any more."""

    order_id: str

    def keys(self) -> Iterable[object]:
        """Return the order."""
        return (("order", self.order_id),)


@dataclass(frozen=True, slots=True)
class Cancel(Call):
    """Cancel an active order; the result is whether it was active."""

    order_id: str

    def keys(self) -> Iterable[object]:
        """Return the order."""
        return (("order", self.order_id),)


@dataclass(frozen=True, slots=True)
class DeleteAll(Call):
    """Forget all orders."""


class Calls(Protocol):
    """Where calls wait for their results: a queue with a thread, or nothing at all."""

    async def result(self, call: Call) -> Any:
        """Return the result of a call."""

    async def close(self) -> None:
        """Answer the calls that wait, and close the connection."""


class Database(Protocol):
    """A connection to a database."""

    queries: Queries

    def read(self, *statements: Statement | None) -> list[Rows]:
        """Return the rows of each statement; none of them writes."""

    def begin(self, *statements: Statement | None) -> list[Rows]:
        """Begin a transaction; return the rows of each statement."""

    def commit(self, *statements: Statement | None) -> None:
        """Execute the last statements of a transaction, and commit it."""


class Orders:
    """The orders in a database."""

    def __init__(self, reads: Calls, writes: Calls) -> None:
        """Have `reads` answered by the function `read`, and `writes` by `write`."""
        self._reads = reads
        self._writes = writes

    async def assign(self, order_id: str, executor_id: str, zone_id: str) -> bool:
        """Register an order and complete the executor's active one (D2).

        Return False, having changed nothing, if `order_id` is known already (D3).
        """
        is_new: bool = await self._writes.result(Assign(order_id, executor_id, zone_id))
        return is_new

    async def acquire(self, executor_id: str) -> Profile | None:
        """Return the executor's active order as an `order_profile`, or None if there is none.

        The first acquire of an order makes it acquired; every later one returns the same profile and writes
        nothing (D4).
        """
        while True:
            row = await self._reads.result(Poll(executor_id))
            if row is not None and row["execution_status"] == ExecutionStatus.ASSIGNED:
                row = await self._writes.result(Acquire(row["order_id"]))
                if row is None:
                    continue  # Somebody has acquired, cancelled or completed it since it was read.
            profile: Profile | None = row
            return profile

    async def cancel(self, order_id: str) -> bool:
        """Cancel an active order (D5); return False, having changed nothing, if there is no such order."""
        was_active: bool = await self._writes.result(Cancel(order_id))
        return was_active

    async def check(self) -> None:
        """Read from the database, to see that it answers."""
        await self._reads.result(Poll(""))

    async def orders(self, filters: Mapping[str, str], limit: int) -> tuple[int, list[Row]]:
        """Return how many orders there are, and the `limit` newest of them as rows, the oldest first.

        `filters` has the value of each column that is asked for.
        """
        rows: Rows = await self._reads.result(Find(filters, limit))
        count: int = rows[0][-1] if rows else 0
        return count, [dict(zip(COLUMNS, row, strict=False)) for row in reversed(rows)]

    async def delete_orders(self) -> None:
        """Forget all orders, active or not."""
        await self._writes.result(DeleteAll())

    async def close(self) -> None:
        """Answer the calls that wait, and close the database."""
        await self._reads.close()
        await self._writes.close()


def read(database: Database, calls: Sequence[Call]) -> list[Any]:
    """Return the results of a set of calls that only look, in their order."""
    executor_ids = [call.executor_id for call in calls if isinstance(call, Poll)]
    searches = [call for call in calls if isinstance(call, Find)]
    active, *found = database.read(
        database.queries.active_orders(executor_ids=executor_ids),
        *(database.queries.newest_orders(search.filters, search.limit) for search in searches),
    )
    by_executor = {row["executor_id"]: row for row in map(_as_row, active)}
    results = iter(found)
    return [by_executor.get(call.executor_id) if isinstance(call, Poll) else next(results) for call in calls]


def write(database: Database, calls: Sequence[Call]) -> list[Any]:
    """Run a set of calls that change orders as one transaction; return their results, in their order.

    It takes two trips to the database. The statements have a fixed order: so the set does what its calls would do one
    by one, first the cancels, then the acquires, then the assigns. Other processes write at the same time, on
    PostgreSQL, so each statement has a condition of its own. `known` alone is relied on after it was read: if somebody
    assigns one of the orders in between, the unique index refuses the whole set.
    """
    queries, now = database.queries, utc_now()
    # Sorted, so that sets of different processes meet in the same order and seldom wait for each other in a circle.
    assigns = sorted((call for call in calls if isinstance(call, Assign)), key=lambda call: call.executor_id)
    _, cancelled, acquired, known = database.begin(
        queries.delete_orders() if DeleteAll() in calls else None,
        queries.cancel_orders(order_ids=sorted(call.order_id for call in calls if isinstance(call, Cancel))),
        queries.acquire_orders(order_ids=sorted(call.order_id for call in calls if isinstance(call, Acquire)), now=now),
        queries.known_orders(order_ids=sorted(call.order_id for call in assigns)),
    )
    known_ids = {order_id for (order_id,) in known}
    new = [call for call in assigns if call.order_id not in known_ids]
    database.commit(
        queries.complete_orders(executor_ids=[call.executor_id for call in new]),
        queries.insert_orders(rows=[_new_row(call, now) for call in new]),
    )
    cancelled_ids = {order_id for (order_id,) in cancelled}
    acquired_rows = {row["order_id"]: row for row in map(_as_row, acquired)}

    def result(call: Call) -> Any:
        match call:
            case Assign(order_id):
                return order_id not in known_ids
            case Acquire(order_id):
                return acquired_rows.get(order_id)
            case Cancel(order_id):
                return order_id in cancelled_ids

    return [result(call) for call in calls]


def _as_row(values: tuple[Any, ...]) -> Row:
    return dict(zip(COLUMNS, values, strict=True))


def _new_row(call: Assign, now: str) -> Row:
    values = (new_id(), call.order_id, call.executor_id, call.zone_id, ExecutionStatus.ASSIGNED.value, now, None)
    return _as_row(values)


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
