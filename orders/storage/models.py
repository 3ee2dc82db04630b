"""Defines what the service stores: the table `assigned_order`, and the rules that the database itself enforces."""

from datetime import UTC, datetime
from enum import StrEnum

from peewee import SQL, Check, Database, Field, Model, SchemaManager, TextField

SCHEMA_VERSION = 1


class CannotOpenDatabase(Exception):
    """The database cannot be used; the message says why."""


class ExecutionStatus(StrEnum):
    """The states of an order (D1)."""

    ASSIGNED = "assigned"
    ACQUIRED = "acquired"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


ACTIVE_STATUSES = (ExecutionStatus.ASSIGNED, ExecutionStatus.ACQUIRED)
# The condition has no bound values. A database uses a partial index only for a query that repeats the condition of
# the index word for word.
ACTIVE = SQL("\"execution_status\" IN ('assigned', 'acquired')")


class UUIDText(Field):
    """A UUID, which Python sees as text."""

    field_type = "UUID"


class TimeText(Field):
    """A point in time, which Python sees as RFC 3339 text: in UTC, with microseconds and a `Z`."""

    field_type = "TIMESTAMPTZ"


class AssignedOrder(Model):
    """An order that was assigned to an executor.

    The columns are the properties of the contract's `OrderProfile`, in the same order (D6). Python sees each as the
    text that answers contain.
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


# The same order_id is never assigned twice (D3).
AssignedOrder.add_index(AssignedOrder.index(AssignedOrder.order_id, unique=True, name="assigned_order_order_id"))

# At most one active order per executor (D2).
AssignedOrder.add_index(
    AssignedOrder.index(AssignedOrder.executor_id, unique=True, where=ACTIVE, name="assigned_order_active_executor")
)

COLUMNS: tuple[str, ...] = tuple(field.column_name for field in AssignedOrder._meta.sorted_fields)
INDEXES: tuple[str, ...] = tuple(index._name for index in AssignedOrder._meta.indexes)


def rfc3339(moment: datetime) -> str:
    """Return a time as the table has it: RFC 3339 in UTC, always with microseconds, so that texts sort like times."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def create_tables(database: Database) -> None:
    """Create the table and its indexes in a database that has neither."""
    SchemaManager(AssignedOrder, database).create_all()


def missing_parts(database: Database) -> list[str]:
    """Return the columns and indexes of the table that a database lacks, for example "the column zone_id"."""
    table = AssignedOrder._meta.table_name
    columns = {column.name for column in database.get_columns(table)}
    indexes = {index.name for index in database.get_indexes(table)}
    return [
        *(f"the column {column}" for column in COLUMNS if column not in columns),
        *(f"the index {name}" for name in INDEXES if name not in indexes),
    ]
