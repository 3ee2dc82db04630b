"""Orders that a test stores as they are, in any state. They must keep the rules that the database enforces."""

from datetime import datetime
from typing import Any

from orders.controls.schemas import SCHEMAS, ControlError, check_values, defaults_of
from orders.lifecycle import Row, new_id, utc_now
from orders.storage.models import ACTIVE_STATUSES, COLUMNS, ExecutionStatus, rfc3339

DEFAULTS = defaults_of(SCHEMAS["NewOrder"])


def make_orders(fields: Any) -> list[Row]:
    """Return the rows of new orders, with defaults for what they leave out. `fields` is like the schema `NewOrders`.

    Raises ControlError if a value is wrong, or if two of the orders exclude each other.
    """
    orders = check_values(fields, SCHEMAS["NewOrders"], "the body")["orders"]
    now = utc_now()
    # Sorted, so that orders with the same `assign_time` are listed as they are given.
    ids = sorted(new_id() for _ in orders)
    order_ids, busy = set(), set()
    rows = []
    for n, (assigned_order_id, order) in enumerate(zip(ids, orders, strict=True)):
        row = {"assigned_order_id": assigned_order_id, **DEFAULTS, **order, **_times(order, f"orders[{n}]", now)}
        if row["order_id"] in order_ids:
            raise ControlError(f"orders[{n}]: the order_id {row['order_id']!r} is given more than once")
        order_ids.add(row["order_id"])
        if row["execution_status"] in ACTIVE_STATUSES:
            if row["executor_id"] in busy:
                raise ControlError(
                    f"orders[{n}]: the executor_id {row['executor_id']!r} can have only one active order"
                )
            busy.add(row["executor_id"])
        rows.append({column: row[column] for column in COLUMNS})
    return rows


def _times(order: dict[str, Any], name: str, now: str) -> dict[str, str | None]:
    """Return the times of an order as the table has them. Raises ControlError if they do not fit its state."""
    status = order.get("execution_status", DEFAULTS["execution_status"])
    given = (order.get("assign_time"), order.get("acquire_time"))
    assign_time, acquire_time = (time and rfc3339(datetime.fromisoformat(time)) for time in given)
    assign_time = assign_time or acquire_time or now
    if status == ExecutionStatus.ACQUIRED:
        acquire_time = acquire_time or assign_time
    if status == ExecutionStatus.ASSIGNED and acquire_time:
        raise ControlError(f"{name}.acquire_time must be left out: the order is not acquired yet")
    if acquire_time and acquire_time < assign_time:
        raise ControlError(f"{name}.acquire_time must not be before assign_time")
    return {"assign_time": assign_time, "acquire_time": acquire_time}
