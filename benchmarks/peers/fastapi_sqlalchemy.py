"""The API in FastAPI over SQLAlchemy's ORM, written as their documentation shows.

FastAPI runs the endpoints, which are plain functions, in its threads, each call with its own session. Run it with
uvicorn. The environment variable `DATABASE` is the path of the SQLite file.
"""

import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated
from uuid import uuid4

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy import CheckConstraint, Index, create_engine, event, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

ACTIVE = "execution_status IN ('assigned', 'acquired')"
MISSING = {
    "/orders/assign": "Missing parameters, please provide order_id, executor_id and zone_id",
    "/order/acquire": "Missing parameters, please provide executor_id",
    "/order/cancel": "Missing parameters, please provide order_id",
}
PROBLEMS = {
    "string_too_long": "longer than 255 characters",
    "string_pattern_mismatch": "control characters are not allowed",
}

engine = create_engine(f"sqlite:///{os.environ['DATABASE']}", connect_args={"timeout": 30, "check_same_thread": False})
SessionLocal = sessionmaker(engine, expire_on_commit=False)


@event.listens_for(engine, "connect")
def make_durable(connection: sqlite3.Connection, _: object) -> None:
    """Make a new connection commit durably."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


class Base(DeclarativeBase):
    """The base class of the models."""


class AssignedOrder(Base):
    """An order that was assigned to an executor."""

    __tablename__ = "assigned_order"
    __table_args__ = (
        CheckConstraint("execution_status IN ('assigned', 'acquired', 'completed', 'cancelled')"),
        Index("assigned_order_order_id", "order_id", unique=True),
        Index("assigned_order_active_executor", "executor_id", unique=True, sqlite_where=text(ACTIVE)),
    )

    assigned_order_id: Mapped[str] = mapped_column(primary_key=True)
    order_id: Mapped[str]
    executor_id: Mapped[str]
    zone_id: Mapped[str]
    execution_status: Mapped[str]
    assign_time: Mapped[str]
    acquire_time: Mapped[str | None]


Base.metadata.create_all(engine)
app = FastAPI()


def open_session() -> Iterator[Session]:
    """Open a session for an endpoint."""
    with SessionLocal() as session:
        yield session


Database = Annotated[Session, Depends(open_session)]
Identifier = Annotated[str, Query(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]


@app.put("/orders/assign")
def assign(order_id: Identifier, executor_id: Identifier, zone_id: Identifier, session: Database) -> JSONResponse:
    """Register an order and complete the executor's active one."""
    try:
        session.execute(
            update(AssignedOrder)
            .where(AssignedOrder.executor_id == executor_id, text(ACTIVE))
            .values(execution_status="completed")
            .execution_options(synchronize_session=False)
        )
        session.add(
            AssignedOrder(
                assigned_order_id=str(uuid4()),
                order_id=order_id,
                executor_id=executor_id,
                zone_id=zone_id,
                execution_status="assigned",
                assign_time=utc_now(),
            )
        )
        session.commit()
    except IntegrityError:
        session.rollback()
        return answer("AssignedOrder with provided orderId already exists", 400)
    return answer("Successfully created")


@app.get("/order/acquire")
def acquire(executor_id: Identifier, session: Database) -> JSONResponse:
    """Give an executor the order assigned to them."""
    query = select(AssignedOrder).where(AssignedOrder.executor_id == executor_id, text(ACTIVE))
    order = session.scalar(query)
    if order is not None and order.execution_status == "assigned":
        session.execute(
            update(AssignedOrder)
            .where(AssignedOrder.executor_id == executor_id, AssignedOrder.execution_status == "assigned")
            .values(execution_status="acquired", acquire_time=utc_now())
            .execution_options(synchronize_session=False)
        )
        # Another request may have been faster. This transaction now holds the write lock, so read the row again.
        order = session.scalar(query, execution_options={"populate_existing": True})
        session.commit()
    if order is None:
        return answer("There are no orders assigned to you")
    profile = {column.name: getattr(order, column.name) for column in AssignedOrder.__table__.columns}
    return JSONResponse({"message": "Successfully acquired", "order_profile": profile}, headers=NO_STORE)


@app.post("/order/cancel")
def cancel(order_id: Identifier, session: Database) -> JSONResponse:
    """Cancel an order."""
    cancelled = session.execute(
        update(AssignedOrder)
        .where(AssignedOrder.order_id == order_id, text(ACTIVE))
        .values(execution_status="cancelled")
        .returning(AssignedOrder.order_id)
        .execution_options(synchronize_session=False)
    ).first()
    session.commit()
    if cancelled is None:
        return answer(f"AssignedOrder with OrderId {order_id} does not exist or has already been canceled")
    return answer("Successfully canceled")


@app.exception_handler(RequestValidationError)
def refuse(request: Request, error: RequestValidationError) -> JSONResponse:
    """Answer a request with missing or invalid parameters."""
    problems = error.errors()
    if any(problem["type"] in ("missing", "string_too_short") for problem in problems):
        return answer(MISSING[request.url.path], 400)
    name = problems[0]["loc"][-1]
    return answer(f"Invalid parameter {name}: {PROBLEMS[problems[0]['type']]}", 400)


@app.exception_handler(Exception)
def hide(_: Request, error: Exception) -> JSONResponse:
    """Answer a request that failed."""
    return answer("Unknown error", 500)


NO_STORE = {"Cache-Control": "no-store"}


def answer(message: str, status: int = 200) -> JSONResponse:
    """Return a response with only a message."""
    return JSONResponse({"message": message}, status, headers=NO_STORE)


def utc_now() -> str:
    """Return the time as RFC 3339 text in UTC."""
    return datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
