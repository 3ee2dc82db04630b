"""The service's queries, written in Peewee and compiled once.

Each query is for a set of orders or executors. Their ids are bound as a list. Peewee needs about 20 times as long to
build a query as SQLite to run it, so each is compiled at start.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from peewee import SQL, Database, Field, Node, Select, Value, fn

from orders.storage.models import ACTIVE, COLUMNS, AssignedOrder, ExecutionStatus

Statement = tuple[str, list[Any]]
Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Placeholder:
    """A value that is bound when a query runs: its name, and a function that converts it for the driver."""

    name: str
    encode: Callable[[Any], Any] = lambda value: value


def placeholder(*arguments: Any) -> Value:
    """Return a placeholder as a part of a Peewee query. The arguments are those of Placeholder."""
    return Value(Placeholder(*arguments), converter=False)


@dataclass(frozen=True)
class Dialect:
    """The parts of the SQL that differ between kinds of databases."""

    database: Database
    begin: str
    # The condition that a column's value is in the list with this name.
    one_of: Callable[[Field, str], Node]
    # The later of two times.
    later_of: Callable[[Node, Node], Node]
    # The source that the new orders are selected from, and the columns to select.
    new_orders: tuple[Node, list[Node]]


class Query:
    """A Peewee query, compiled to the SQL of one kind of database."""

    def __init__(self, database: Database, query: Node) -> None:
        self._sql, self._values = database.get_sql_context().sql(query).query()

    def __call__(self, **parameters: Any) -> Statement | None:
        """Return the SQL and its values, or None if a list is empty, because the query would find nothing."""
        if [] in parameters.values():
            return None
        return self._sql, [
            value.encode(parameters[value.name]) if isinstance(value, Placeholder) else value for value in self._values
        ]


class Queries:
    """All queries, compiled to the SQL of one kind of database."""

    def __init__(self, dialect: Dialect) -> None:
        def compiled(query: Node) -> Query:
            return Query(dialect.database, query)

        source, columns = dialect.new_orders
        is_one_of_orders = dialect.one_of(AssignedOrder.order_id, "order_ids")
        is_of_executors = dialect.one_of(AssignedOrder.executor_id, "executor_ids")
        self._compiled = compiled
        self.begin: Statement = (dialect.begin, [])
        self.commit: Statement = ("COMMIT", [])
        self.active_orders = compiled(AssignedOrder.select().where(is_of_executors).where(ACTIVE))
        self.known_orders = compiled(AssignedOrder.select(AssignedOrder.order_id).where(is_one_of_orders))
        self.cancel_orders = compiled(
            AssignedOrder.update({AssignedOrder.execution_status: ExecutionStatus.CANCELLED.value})
            .where(is_one_of_orders)
            .where(ACTIVE)
            .returning(AssignedOrder.order_id)
        )
        # If the clock was set back, an order must still not be acquired before it was assigned.
        acquire_time = dialect.later_of(placeholder("now"), AssignedOrder.assign_time)
        self.acquire_orders = compiled(
            AssignedOrder.update(execution_status=ExecutionStatus.ACQUIRED.value, acquire_time=acquire_time)
            .where(is_one_of_orders)
            .where(AssignedOrder.execution_status == ExecutionStatus.ASSIGNED.value)
            .returning(AssignedOrder)
        )
        self.complete_orders = compiled(
            AssignedOrder.update({AssignedOrder.execution_status: ExecutionStatus.COMPLETED.value})
            .where(is_of_executors)
            .where(ACTIVE)
        )
        self.insert_orders = compiled(
            AssignedOrder.insert_from(
                Select([source], columns),
                fields=[getattr(AssignedOrder, column) for column in COLUMNS],
            )
        )
        self.delete_orders = compiled(AssignedOrder.delete())

    def newest_orders(self, filters: Mapping[str, str], limit: int) -> Statement | None:
        """Return the query for the `limit` newest orders, the newest first.

        Its last column is the number of all matching orders. `filters` maps a column to the value it must have.
        """
        query = (
            AssignedOrder.select(AssignedOrder, fn.COUNT(SQL("*")).over())
            .order_by(AssignedOrder.assign_time.desc(), AssignedOrder.assigned_order_id.desc())
            .limit(limit)
        )
        for column, value in filters.items():
            query = query.where(getattr(AssignedOrder, column) == value)
        return self._compiled(query)()
