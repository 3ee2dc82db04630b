"""The table: its columns, and the rules that the database enforces by itself."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orders import queries
from orders.book import utc_now
from orders.database import DatabaseURL, prepare
from orders.models import COLUMNS, ExecutionStatus
from orders.queries import CompiledQuery
from tests.test_contract import document

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
def connection(database: Path) -> Iterator[sqlite3.Connection]:
    """A connection, past Peewee, to a new database."""
    prepare(DatabaseURL.parse(f"sqlite:///{database}"))
    connection = sqlite3.connect(database)
    yield connection
    connection.close()


def insert(connection: sqlite3.Connection, **row: Any) -> None:
    """Insert a row as another program might."""
    row = {**ROW, **row}
    connection.execute(
        f"INSERT INTO assigned_order ({', '.join(row)}) VALUES ({', '.join(f':{column}' for column in row)})", row
    )


def test_columns_are_the_properties_of_the_profile(connection: sqlite3.Connection) -> None:
    """The contract, the model and the database have the same names in the same order, no more, no fewer (D6)."""
    profile = document()["components"]["schemas"]["OrderProfile"]
    in_database = [name for _, name, *_ in connection.execute("PRAGMA table_info(assigned_order)")]
    assert list(profile["properties"]) == list(COLUMNS) == in_database == profile["required"]


def test_statuses_are_those_of_the_contract() -> None:
    """The model and the contract have the same statuses in the same order (D1)."""
    assert document()["components"]["schemas"]["ExecutionStatus"]["enum"] == list(ExecutionStatus)


@pytest.mark.parametrize(
    "second",
    [
        {"order_id": "other order"},
        {"assigned_order_id": OTHER_IDS["assigned_order_id"], "executor_id": "other executor"},
        OTHER_IDS,
        {**OTHER_IDS, "execution_status": "acquired", "acquire_time": utc_now()},
    ],
)
def test_the_database_refuses_what_breaks_uniqueness(connection: sqlite3.Connection, second: dict[str, Any]) -> None:
    """A second row with a known id, and a second active order of one executor, are refused by the database (D2)."""
    insert(connection)
    with pytest.raises(sqlite3.IntegrityError):
        insert(connection, **second)


@pytest.mark.parametrize("status", ["completed", "cancelled"])
def test_an_executor_may_have_any_number_of_final_orders(connection: sqlite3.Connection, status: str) -> None:
    """Only active orders count for the one that an executor may have (D2)."""
    insert(connection)
    insert(connection, **OTHER_IDS, execution_status=status)


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
def test_the_database_refuses_a_row_that_makes_no_sense(connection: sqlite3.Connection, row: dict[str, Any]) -> None:
    """Unknown statuses, an acquire time too early or missing, and nulls are refused by the database (D6)."""
    with pytest.raises(sqlite3.IntegrityError):
        insert(connection, **row)


@pytest.mark.parametrize(
    "name", [name for name in vars(queries) if name.isupper() and name not in ("SQL", "COLUMNS", "ACTIVE")]
)
def test_no_query_scans_the_table(connection: sqlite3.Connection, name: str) -> None:
    """Every query finds its row through an index, however many orders there are."""
    from peewee import SqliteDatabase

    compiled = CompiledQuery(SqliteDatabase(":memory:"), getattr(queries, name))
    plan = connection.execute(f"EXPLAIN QUERY PLAN {compiled._sql}", compiled._values).fetchall()
    scans = [step for *_, step in plan if step.startswith("SCAN") and name != "ANY_ORDER"]
    assert not scans, f"{compiled._sql}: {scans}"
