"""The service's queries, written in Peewee and compiled once.

Each query is for a set of orders or executors. Their ids are bound as a list. Peewee takes about 20 times as long to
build a query as SQLite to run it, so each is compiled at start.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from peewee import SQL, Database, Field, Node, Select, Value, fn

from orders.storage.models import ACTIVE, COLUMNS, AssignedOrder, ExecutionStatus

Statement = tuple[str, list[Any]]
Rows = list[tuple[Any, ...]]


def parameter(name: str, encode: Callable[[Any], Any] = lambda value: value) -> Value:
    """Return a placeholder for a value that each call of the query gives. `encode` converts it for the driver."""
    return Value(lambda parameters: encode(parameters[name]), converter=False)


@dataclass(frozen=True)
class Dialect:
    """The parts of the SQL that differ between kinds of databases."""

    database: Database
    begin: str
    # The condition that a column has one of the values in a list. The list is the parameter with the given name.
    in_list: Callable[[Field, str], Node]
    # The later of two times.
    later_of: Callable[[Node, Node], Node]
    # A query that returns the parameter `rows`, a list of new orders, as rows.
    new_orders: Select


class Query:
    """A Peewee query, compiled to the SQL of one kind of database."""

    def __init__(self, database: Database, query: Node) -> None:
        self._sql, self._values = database.get_sql_context().sql(query).query()

    def __call__(self, **parameters: Any) -> Statement | None:
        """Return the SQL and its values, or None if a list is empty, because the query would find nothing."""
        if [] in parameters.values():
            return None
        return self._sql, [value(parameters) if callable(value) else value for value in self._values]


class Queries:
    """All queries, compiled to the SQL of one kind of database."""

    def __init__(self, dialect: Dialect) -> None:
        def compiled(query: Node) -> Query:
            return Query(dialect.database, query)

        in_order_ids = dialect.in_list(AssignedOrder.order_id, "order_ids")
        in_executor_ids = dialect.in_list(AssignedOrder.executor_id, "executor_ids")
        self._compiled = compiled
        self.begin: Statement = (dialect.begin, [])
        self.commit: Statement = ("COMMIT", [])
        self.active_orders = compiled(AssignedOrder.select().where(in_executor_ids).where(ACTIVE))
        self.known_orders = compiled(AssignedOrder.select(AssignedOrder.order_id).where(in_order_ids))
        self.cancel_orders = compiled(
            AssignedOrder.update(execution_status=ExecutionStatus.CANCELLED.value)
            .where(in_order_ids)
            .where(ACTIVE)
            .returning(AssignedOrder.order_id)
        )
        # If the clock was set back, an order must still not be acquired before it was assigned.
        acquire_time = dialect.later_of(parameter("now"), AssignedOrder.assign_time)
        self.acquire_orders = compiled(
            AssignedOrder.update(execution_status=ExecutionStatus.ACQUIRED.value, acquire_time=acquire_time)
            .where(in_order_ids)
            .where(AssignedOrder.execution_status == ExecutionStatus.ASSIGNED.value)
            .returning(AssignedOrder)
        )
        self.complete_orders = compiled(
            AssignedOrder.update(execution_status=ExecutionStatus.COMPLETED.value).where(in_executor_ids).where(ACTIVE)
        )
        self.insert_orders = compiled(AssignedOrder.insert_from(dialect.new_orders, fields=COLUMNS))
        # Inserts all of the orders or, if the database has one that is in the way, none.
        known, active = (
            AssignedOrder.select().where(in_order_ids),
            AssignedOrder.select().where(in_executor_ids, ACTIVE),
        )
        addable_orders = dialect.new_orders.where(~fn.EXISTS(known), ~fn.EXISTS(active))
        self.add_orders = compiled(
            AssignedOrder.insert_from(addable_orders, fields=COLUMNS).returning(AssignedOrder.order_id)
        )
        self.delete_orders = compiled(AssignedOrder.delete())
        # Writes an order as it is.
        some_order_id = AssignedOrder.select(fn.MAX(AssignedOrder.order_id))
        self.write_nothing_new = compiled(
            AssignedOrder.update(zone_id=AssignedOrder.zone_id).where(AssignedOrder.order_id == some_order_id)
        )

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
