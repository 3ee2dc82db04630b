"""The service's queries, written in Peewee and compiled once.

Each query is for a set of orders or executors, whose ids are bound as a list. Building a query costs Peewee about
twenty times what SQLite takes to run it, so each is turned into SQL when the database is opened.
"""

from collections.abc import Callable, Mapping
from typing import Any

from peewee import SQL, Database, Field, Node, Select, Value, fn

from orders.models import ACTIVE, COLUMNS, AssignedOrder, ExecutionStatus

Statement = tuple[str, list[Any]]


class Placeholder:
    """A value that is bound when a query is executed: its name, and what the driver is to make of it."""

    def __init__(self, name: str, encode: Callable[[Any], Any] = lambda value: value) -> None:
        self.name = name
        self.encode = encode


def placeholder(name: str, encode: Callable[[Any], Any] = lambda value: value) -> Value:
    """Return the place in a query of the value called `name`."""
    return Value(Placeholder(name, encode), converter=False)


class Dialect:
    """What is written differently for one kind of database."""

    def __init__(
        self,
        database: Database,
        *,
        one_of: Callable[[Field, str], Node],
        later_of: Callable[[Node, Node], Node],
        new_rows: Callable[[], tuple[Node, list[Node]]],
    ) -> None:
        """`one_of` says that a column is in a list, `new_rows` makes rows of a list of them: a source and columns."""
        self.database = database
        self.one_of = one_of
        self.later_of = later_of
        self.new_rows = new_rows


class Query:
    """A Peewee query as the SQL of one kind of database."""

    def __init__(self, database: Database, query: Node) -> None:
        self.sql, self.values = database.get_sql_context().sql(query).query()

    def __call__(self, **parameters: Any) -> Statement | None:
        """Return the query with its values, or None if a list is empty: then it is for nobody."""
        if [] in parameters.values():
            return None
        return self.sql, [
            value.encode(parameters[value.name]) if isinstance(value, Placeholder) else value for value in self.values
        ]


class Queries:
    """The queries as the SQL of one kind of database."""

    def __init__(self, dialect: Dialect) -> None:
        self._database = dialect.database
        self.active_orders = self._compiled(
            AssignedOrder.select()
            .where(dialect.one_of(AssignedOrder.executor_id, "executor_ids"))
            .where(ACTIVE)
        )  # fmt: skip
        self.known_orders = self._compiled(
            AssignedOrder.select(AssignedOrder.order_id)
            .where(dialect.one_of(AssignedOrder.order_id, "order_ids"))
        )  # fmt: skip
        self.cancel_orders = self._compiled(
            AssignedOrder.update({AssignedOrder.execution_status: ExecutionStatus.CANCELLED.value})
            .where(dialect.one_of(AssignedOrder.order_id, "order_ids"))
            .where(ACTIVE)
            .returning(AssignedOrder.order_id)
        )
        self.acquire_orders = self._compiled(
            AssignedOrder.update(
                {
                    AssignedOrder.execution_status: ExecutionStatus.ACQUIRED.value,
                    # A clock that was set back must not make an order acquired before it was assigned.
                    AssignedOrder.acquire_time: dialect.later_of(placeholder("now"), AssignedOrder.assign_time),
                }
            )
            .where(dialect.one_of(AssignedOrder.order_id, "order_ids"))
            .where(AssignedOrder.execution_status == ExecutionStatus.ASSIGNED.value)
            .returning(AssignedOrder)
        )
        self.complete_orders = self._compiled(
            AssignedOrder.update({AssignedOrder.execution_status: ExecutionStatus.COMPLETED.value})
            .where(dialect.one_of(AssignedOrder.executor_id, "executor_ids"))
            .where(ACTIVE)
        )
        source, columns = dialect.new_rows()
        self.insert_orders = self._compiled(
            AssignedOrder.insert_from(
                Select(from_list=[source], columns=columns),
                fields=[getattr(AssignedOrder, column) for column in COLUMNS],
            )
        )
        self.delete_orders = self._compiled(AssignedOrder.delete())

    def newest_orders(self, filters: Mapping[str, str], limit: int) -> Statement | None:
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
        return self._compiled(query)()

    def _compiled(self, query: Node) -> Query:
        return Query(self._database, query)
