"""The service's queries, written in Peewee and compiled once.

Building a query costs Peewee about twenty times what SQLite takes to run it, so each is turned into SQL when the
database is opened and executed with bound values from then on.
"""

from collections.abc import Mapping
from typing import Any

from peewee import SQL, Database, Node, Value, fn

from orders.models import ACTIVE, COLUMNS, AssignedOrder, ExecutionStatus


class Placeholder(str):
    """The name of a value that is bound when the query is executed."""

    __slots__ = ()


def placeholder(name: str) -> Value:
    """Return the place in a query of the value called `name`."""
    return Value(Placeholder(name), converter=False)


class CompiledQuery:
    """A Peewee query as the SQL of one kind of database."""

    def __init__(self, database: Database, query: Node) -> None:
        self._database = database
        self._sql, self._values = database.get_sql_context().sql(query).query()

    def execute(self, **parameters: object) -> Any:
        """Execute the query on the database's connection; return the driver's cursor."""
        values = [parameters[value] if type(value) is Placeholder else value for value in self._values]
        return self._database.execute_sql(self._sql, values)


KNOWN_ORDER = (
    AssignedOrder.select(SQL("1"))
    .where(AssignedOrder.order_id == placeholder("order_id"))
)  # fmt: skip

ACTIVE_ORDER = (
    AssignedOrder.select(SQL("1"))
    .where(AssignedOrder.order_id == placeholder("order_id"))
    .where(ACTIVE)
)  # fmt: skip

ACTIVE_ORDER_OF_EXECUTOR = (
    AssignedOrder.select()
    .where(AssignedOrder.executor_id == placeholder("executor_id"))
    .where(ACTIVE)
)  # fmt: skip

INSERT_ORDER = AssignedOrder.insert({getattr(AssignedOrder, column): placeholder(column) for column in COLUMNS})

COMPLETE_ACTIVE_ORDER_OF_EXECUTOR = (
    AssignedOrder.update({AssignedOrder.execution_status: ExecutionStatus.COMPLETED.value})
    .where(AssignedOrder.executor_id == placeholder("executor_id"))
    .where(ACTIVE)
)  # fmt: skip

ACQUIRE_ORDER = (
    AssignedOrder.update(
        {
            AssignedOrder.execution_status: ExecutionStatus.ACQUIRED.value,
            AssignedOrder.acquire_time: placeholder("acquire_time"),
        }
    )
    .where(AssignedOrder.order_id == placeholder("order_id"))
    .where(AssignedOrder.execution_status == ExecutionStatus.ASSIGNED.value)
)  # fmt: skip

CANCEL_ACTIVE_ORDER = (
    AssignedOrder.update({AssignedOrder.execution_status: ExecutionStatus.CANCELLED.value})
    .where(AssignedOrder.order_id == placeholder("order_id"))
    .where(ACTIVE)
)  # fmt: skip

ANY_ORDER = AssignedOrder.select(SQL("1")).limit(1)

DELETE_ORDERS = AssignedOrder.delete()


def newest_orders(filters: Mapping[str, str], limit: int) -> Node:
    """Return the query of the newest orders, first of all, with the number of all of them as a last column.

    `filters` has the value of each column that is asked for.
    """
    query = (
        AssignedOrder.select(AssignedOrder, fn.COUNT(SQL("*")).over())
        .order_by(AssignedOrder.assign_time.desc(), AssignedOrder.assigned_order_id.desc())
        .limit(limit)
    )
    for column, value in filters.items():
        query = query.where(getattr(AssignedOrder, column) == value)
    return query
