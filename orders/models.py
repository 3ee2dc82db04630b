"""What the service stores: one table, `assigned_order`, with the rules that the database itself enforces."""

from enum import StrEnum

from peewee import SQL, Check, Model, TextField


class ExecutionStatus(StrEnum):
    """Where an order is in its lifecycle (D1)."""

    ASSIGNED = "assigned"
    ACQUIRED = "acquired"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


# The condition is spelled out, not bound, because a database uses a partial index only for a query
# that repeats the index's own condition word for word.
ACTIVE = SQL("\"execution_status\" IN ('assigned', 'acquired')")


class AssignedOrder(Model):
    """An order that was assigned to an executor.

    The columns are the properties of the contract's `OrderProfile`, in the same order (D6). All are
    text, as answers show them: the id a UUID, times RFC 3339 in UTC with microseconds and a `Z`.
    """

    assigned_order_id = TextField(primary_key=True)
    order_id = TextField()
    executor_id = TextField()
    zone_id = TextField()
    execution_status = TextField(constraints=[Check(f"execution_status IN {tuple(s.value for s in ExecutionStatus)}")])
    assign_time = TextField()
    acquire_time = TextField(null=True)

    class Meta:
        table_name = "assigned_order"
        constraints = [  # noqa: RUF012
            Check("execution_status <> 'assigned' OR acquire_time IS NULL"),
            Check("execution_status <> 'acquired' OR acquire_time IS NOT NULL"),
        ]


# An order_id once known stays known (D3).
AssignedOrder.add_index(
    AssignedOrder.index(
        AssignedOrder.order_id,
        unique=True,
        name="assigned_order_order_id",
    )
)

# One active order an executor (D2).
AssignedOrder.add_index(
    AssignedOrder.index(
        AssignedOrder.executor_id,
        unique=True,
        where=ACTIVE,
        name="assigned_order_active_executor",
    )
)

COLUMNS: tuple[str, ...] = tuple(field.column_name for field in AssignedOrder._meta.sorted_fields)
