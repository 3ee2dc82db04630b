"""The table: its columns, the rules that each database enforces itself, and the indexes that the queries use."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from peewee import Database, IntegrityError, PostgresqlDatabase

from orders.lifecycle import utc_now
from orders.storage import postgresql, sqlite
from orders.storage.models import COLUMNS, AssignedOrder
from orders.storage.queries import Queries, Query
from tests.storage.scenarios import prepare

ROW = {
    "assigned_order_id": "11111111-1111-1111-1111-111111111111",
    "order_id": "order",
    "executor_id": "executor",
    "zone_id": "zone",
    "execution_status": "assigned",
    "assign_time": utc_now(),
    "acquire_time": None,
}
OTHER_IDS = {"assigned_order_id": "22222222-2222-2222-2222-222222222222", "order_id": "other order"}


@pytest.fixture
def database(any_database: str) -> Iterator[Database]:
    """A new database of each kind, as another program sees it."""
    prepare(any_database)
    database: Database
    if any_database.startswith("sqlite:"):
        database = sqlite.connect(any_database.removeprefix("sqlite:///"))
    else:
        database = PostgresqlDatabase(any_database, prefer_psycopg3=True)
    with database, AssignedOrder.bind_ctx(database):
        yield database


def insert(**row: Any) -> None:
    """Insert a row as another program might."""
    AssignedOrder.insert(**{**ROW, **row}).execute()


def test_the_table_has_the_columns_of_the_model(database: Database) -> None:
    """The table has the columns of the model, in the same order, which is also the order of the contract (D6)."""
    assert [column.name for column in database.get_columns("assigned_order")] == list(COLUMNS)


@pytest.mark.parametrize(
    "second",
    [
        {"order_id": "other order"},
        {"assigned_order_id": OTHER_IDS["assigned_order_id"], "executor_id": "other executor"},
        OTHER_IDS,
        {**OTHER_IDS, "execution_status": "acquired", "acquire_time": utc_now()},
    ],
)
def test_the_database_refuses_what_breaks_uniqueness(database: Database, second: dict[str, Any]) -> None:
    """The database refuses a second row with a known id, and a second active order of an executor (D2)."""
    insert()
    with pytest.raises(IntegrityError):
        insert(**second)


@pytest.mark.parametrize("status", ["completed", "cancelled"])
def test_an_executor_may_have_any_number_of_final_orders(database: Database, status: str) -> None:
    """The limit of one order per executor is for active orders only (D2)."""
    insert()
    insert(**OTHER_IDS, execution_status=status)


@pytest.mark.parametrize(
    "row",
    [
        {"execution_status": "lost"},
        {"execution_status": "assigned", "acquire_time": utc_now()},
        {"execution_status": "acquired"},
        {"zone_id": None},
        {"assigned_order_id": None},
    ],
)
def test_the_database_refuses_a_row_that_is_not_an_order(database: Database, row: dict[str, Any]) -> None:
    """The database refuses an unknown status, an early or missing acquire time, and nulls (D6)."""
    with pytest.raises(IntegrityError):
        insert(**row)


@pytest.mark.parametrize(
    "name", [name for name, query in vars(Queries(sqlite.DIALECT)).items() if isinstance(query, Query)]
)
def test_no_query_scans_the_table(database: Database, name: str) -> None:
    """Every query of an operation finds its rows through an index, however many orders there are."""
    is_postgresql = isinstance(database, PostgresqlDatabase)
    query = getattr(Queries(postgresql.DIALECT if is_postgresql else sqlite.DIALECT), name)
    sql, values = query(order_ids=["1", "2"], executor_ids=["1", "2"], rows=[ROW], now=ROW["assign_time"])
    if is_postgresql:
        # Without this setting, PostgreSQL would scan the table, because it is empty.
        database.execute_sql("SET enable_seqscan = off")
        plan = [step for (step,) in database.execute_sql(f"EXPLAIN {sql}", values)]
    else:
        plan = [step for *_, step in database.execute_sql(f"EXPLAIN QUERY PLAN {sql}", values)]
    scans = [step for step in plan if re.search("(SCAN|Seq Scan on) (t1|assigned_order)", step)]
    assert not scans or name == "delete_orders", f"{sql}: {plan}"
