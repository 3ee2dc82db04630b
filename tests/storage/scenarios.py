"""Opens a database inside the test's own process, and runs a scenario with it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from harness.server import database_url
from orders.lifecycle import Orders
from orders.storage import database as storage

T = TypeVar("T")

Scenario = Callable[[Orders], Awaitable[T]]


def prepare(database: Path | str) -> None:
    """Prepare a database, as a server does when it starts. `database` is the path of an SQLite file, or a URL."""
    storage.prepare(storage.DatabaseURL.parse(database_url(database)))


@asynccontextmanager
async def opened(database: Path | str) -> AsyncIterator[Orders]:
    """Open a database that has been prepared, and close it at the end."""
    orders = Orders(storage.DatabaseURL.parse(database_url(database)))
    try:
        yield orders
    finally:
        await orders.close()


def run(database: Path | str, scenario: Scenario[T]) -> T:
    """Open a database that has been prepared, run a scenario, and close the database. Return the scenario's result."""

    async def run_scenario() -> T:
        async with opened(database) as orders:
            return await scenario(orders)

    return asyncio.run(run_scenario())
