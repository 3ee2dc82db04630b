"""What the service stores: one table, `assigned_order`, with the rules that the database itself enforces."""

from enum import StrEnum
from threading import Lock

from peewee import SQL, Check, Database, Field, Model, TextField

SCHEMA_VERSION = 1


class CannotOpenDatabase(Exception):
    """The database cannot be used; the message says why."""


class ExecutionStatus(StrEnum):
    """Where an order is in its lifecycle (D1)."""

    ASSIGNED = "assigned"
    ACQUIRED = "acquired"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


# The condition is spelled out, not bound, because a database uses a partial index only for a query
# that repeats the index's own condition word for word.
ACTIVE = SQL("\"execution_status\" IN ('assigned', 'acquired')")


class UUIDText(Field):
    """A UUID, to Python text."""

    field_type = "UUID"


class TimeText(Field):
    """A point in time, to Python text as RFC 3339 has it, in UTC with microseconds and a `Z`."""

    field_type = "TIMESTAMPTZ"


class AssignedOrder(Model):
    """An order that was assigned to an executor.

    The columns are the properties of the contract's `OrderProfile`, in the same order (D6). To Python all are text,
    as answers show them.
    """

    assigned_order_id = UUIDText(primary_key=True)
    order_id = TextField()
    executor_id = TextField()
    zone_id = TextField()
    execution_status = TextField(constraints=[Check(f"execution_status IN {tuple(s.value for s in ExecutionStatus)}")])
    assign_time = TimeText()
    acquire_time = TimeText(null=True)

    class Meta:
        table_name = "assigned_order"
        constraints = [  # noqa: RUF012
            Check("execution_status <> 'assigned' OR acquire_time IS NULL"),
            Check("execution_status <> 'acquired' OR acquire_time IS NOT NULL"),
        ]


# An order_id once known stays known (D3).
AssignedOrder.add_index(AssignedOrder.index(AssignedOrder.order_id, unique=True, name="assigned_order_order_id"))

# At most one active order per executor (D2).
AssignedOrder.add_index(
    AssignedOrder.index(AssignedOrder.executor_id, unique=True, where=ACTIVE, name="assigned_order_active_executor")
)

COLUMNS: tuple[str, ...] = tuple(field.column_name for field in AssignedOrder._meta.sorted_fields)
INDEXES: tuple[str, ...] = tuple(index._name for index in AssignedOrder._meta.indexes)

_creating = Lock()


def create_tables(database: Database) -> None:
    """Create the table and its indexes in a database that has neither."""
    # To create a table, Peewee ties the model to one database, for all threads.
    with _creating, AssignedOrder.bind_ctx(database):
        database.create_tables([AssignedOrder])


def missing_parts(database: Database) -> list[str]:
    """Return what a database lacks of the table's columns and indexes, each named with its kind."""
    table = AssignedOrder._meta.table_name
    columns = {column.name for column in database.get_columns(table)}
    indexes = {index.name for index in database.get_indexes(table)}
    return [
        *(f"the column {column}" for column in COLUMNS if column not in columns),
        *(f"the index {name}" for name in INDEXES if name not in indexes),
    ]
