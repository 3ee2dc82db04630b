"""The API in Flask over the sqlite3 module, without an ORM.

Each thread of the server keeps a connection. Run it with waitress. The environment variable `DATABASE` is the path of
the SQLite file.
"""

import os
import re
import sqlite3
import threading
from datetime import UTC, datetime
from uuid import uuid4

from flask import Flask, Response, jsonify, request

ACTIVE = "execution_status IN ('assigned', 'acquired')"
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS assigned_order (
    assigned_order_id TEXT NOT NULL PRIMARY KEY,
    order_id TEXT NOT NULL,
    executor_id TEXT NOT NULL,
    zone_id TEXT NOT NULL,
    execution_status TEXT NOT NULL CHECK (execution_status IN ('assigned', 'acquired', 'completed', 'cancelled')),
    assign_time TEXT NOT NULL,
    acquire_time TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS assigned_order_order_id ON assigned_order (order_id);
CREATE UNIQUE INDEX IF NOT EXISTS assigned_order_active_executor ON assigned_order (executor_id) WHERE {ACTIVE};
"""
CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")

app = Flask(__name__)
app.json.sort_keys = False  # type: ignore[attr-defined]
local = threading.local()


def database() -> sqlite3.Connection:
    """Return the thread's connection. Outside of explicit transactions, it commits each statement."""
    if not hasattr(local, "connection"):
        local.connection = sqlite3.connect(os.environ["DATABASE"], timeout=30, isolation_level=None)
        local.connection.row_factory = sqlite3.Row
        local.connection.execute("PRAGMA journal_mode = WAL")
        local.connection.execute("PRAGMA synchronous = FULL")
    connection: sqlite3.Connection = local.connection
    return connection


database().executescript(SCHEMA)


class Refused(Exception):
    """A parameter is missing or invalid."""


def identifiers(*names: str) -> list[str]:
    """Return the values of the request's parameters. Raises Refused if one is missing or invalid."""
    values = [request.args.get(name, "") for name in names]
    if not all(values):
        listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
        raise Refused(f"Missing parameters, please provide {listed}")
    for name, value in zip(names, values, strict=True):
        if len(value) > 255:
            raise Refused(f"Invalid parameter {name}: longer than 255 characters")
        if CONTROL_CHARACTER.search(value):
            raise Refused(f"Invalid parameter {name}: control characters are not allowed")
    return values


@app.put("/orders/assign")
def assign() -> Response:
    """Register an order and complete the executor's active one."""
    order_id, executor_id, zone_id = identifiers("order_id", "executor_id", "zone_id")
    connection = database()
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(
            f"UPDATE assigned_order SET execution_status = 'completed' WHERE executor_id = ? AND {ACTIVE}",
            (executor_id,),
        )
        connection.execute(
            "INSERT INTO assigned_order VALUES (?, ?, ?, ?, 'assigned', ?, NULL)",
            (str(uuid4()), order_id, executor_id, zone_id, utc_now()),
        )
        connection.execute("COMMIT")
    except sqlite3.IntegrityError:
        connection.execute("ROLLBACK")
        return answer("AssignedOrder with provided orderId already exists", 400)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return answer("Successfully created")


@app.get("/order/acquire")
def acquire() -> Response:
    """Give an executor the order assigned to them."""
    (executor_id,) = identifiers("executor_id")
    connection = database()
    query = f"SELECT * FROM assigned_order WHERE executor_id = ? AND {ACTIVE}"
    order = connection.execute(query, (executor_id,)).fetchone()
    if order is not None and order["execution_status"] == "assigned":
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "UPDATE assigned_order SET execution_status = 'acquired', acquire_time = ?"
            " WHERE executor_id = ? AND execution_status = 'assigned'",
            (utc_now(), executor_id),
        )
        # Another request may have been faster. This transaction now holds the write lock, so read the row again.
        order = connection.execute(query, (executor_id,)).fetchone()
        connection.execute("COMMIT")
    if order is None:
        return answer("There are no orders assigned to you")
    response = jsonify(message="Successfully acquired", order_profile=dict(order))
    response.headers["Cache-Control"] = "no-store"
    return response


@app.post("/order/cancel")
def cancel() -> Response:
    """Cancel an order."""
    (order_id,) = identifiers("order_id")
    cancelled = database().execute(
        f"UPDATE assigned_order SET execution_status = 'cancelled' WHERE order_id = ? AND {ACTIVE}", (order_id,)
    )
    if cancelled.rowcount == 0:
        return answer(f"AssignedOrder with OrderId {order_id} does not exist or has already been canceled")
    return answer("Successfully canceled")


@app.errorhandler(Refused)
def refuse(refused: Refused) -> Response:
    """Answer a request with missing or invalid parameters."""
    return answer(str(refused), 400)


@app.errorhandler(500)
def hide(_: Exception) -> Response:
    """Answer a request that failed."""
    return answer("Unknown error", 500)


def answer(message: str, status: int = 200) -> Response:
    """Return a response with only a message."""
    response = jsonify(message=message)
    response.status_code = status
    response.headers["Cache-Control"] = "no-store"
    return response


def utc_now() -> str:
    """Return the time as RFC 3339 text in UTC."""
    return datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
