"""The databases under the servers that are measured, and filling them with orders faster than a server could."""

import os
import shutil
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

import psycopg

from harness.postgresql import PostgreSQL

# The same in both dialects. The newest orders are active, one for each executor of each phase; the others are final.
FILL = """
INSERT INTO assigned_order
SELECT
    {uuid},
    'stored-' || n,
    CASE n % 3 WHEN 0 THEN 'assign' WHEN 1 THEN 'acquire' ELSE 'mix' END || '-' || (n / 3 % {executors} + 1),
    'zone-' || n % 100,
    CASE WHEN n < 3 * {executors} THEN 'acquired' WHEN n % 50 = 0 THEN 'cancelled' ELSE 'completed' END,
    '2026-01-01T00:00:00.000000Z',
    '2026-01-01T00:00:00.000000Z'
FROM {numbers}
"""
SQLITE_UUID = "lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-a'"
SQLITE_UUID += " || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))"
SQLITE_NUMBERS = "(WITH RECURSIVE numbers(n) AS (VALUES ({last}) UNION ALL SELECT n - 1 FROM numbers WHERE n > 0)"
SQLITE_NUMBERS += " SELECT n FROM numbers)"


def executors_of(orders: int) -> int:
    """Return how many executors each phase has, where `orders` are stored."""
    return min(orders // 4, 150_000)


class Database(Protocol):
    """A database of a server that is measured."""

    @property
    def url(self) -> str:
        """The database as `orders serve` is told of it."""

    @property
    def processes(self) -> Sequence[int]:
        """The first processes of the database server, whose work counts as that of the server that is measured."""

    def fill(self, orders: int) -> None:
        """Store `orders` in the table, which has to be there."""

    def copy(self, name: str) -> "Database":
        """Return a copy of the database, which nobody may be using."""

    def delete(self) -> None:
        """Delete the database, which nobody uses any more."""


class SqliteFile:
    """An SQLite file, of our server or another."""

    processes: Sequence[int] = ()

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def url(self) -> str:
        """The file as a URL."""
        return f"sqlite:///{self.path}"

    def fill(self, orders: int) -> None:
        """Store `orders` in the table."""
        numbers = SQLITE_NUMBERS.format(last=orders - 1)
        with closing(sqlite3.connect(self.path)) as connection:
            # A gigabyte of cache, as the indexes are written all over.
            connection.execute("PRAGMA cache_size = -1000000")
            with connection:
                connection.execute(FILL.format(uuid=SQLITE_UUID, numbers=numbers, executors=executors_of(orders)))
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def copy(self, name: str) -> "SqliteFile":
        """Return a copy beside the file."""
        path = self.path.with_name(f"{name}.db")
        shutil.copyfile(self.path, path)
        # Or the first commits would have to wait until all of the copy is on disk.
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
        return SqliteFile(path)

    def delete(self) -> None:
        """Delete the file and what is beside it."""
        for file in self.path.parent.glob(f"{self.path.name}*"):
            file.unlink()


class PostgresDatabase:
    """A database of a PostgreSQL server."""

    def __init__(self, primary: PostgreSQL, name: str = "orders", standby: PostgreSQL | None = None) -> None:
        """Take the database called `name`. With a `standby`, a commit waits for that too."""
        self._primary = primary
        self._name = name
        self.processes: Sequence[int] = [primary.pid, *([standby.pid] if standby else [])]
        if standby:
            primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
            primary.execute("SELECT pg_reload_conf()")
            while primary.execute("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'") == []:
                time.sleep(0.05)

    @property
    def url(self) -> str:
        """The database as a URL."""
        return self._primary.url_of(self._name)

    def fill(self, orders: int) -> None:
        """Store `orders` in the table."""
        numbers = f"generate_series({orders - 1}, 0, -1) AS n"
        # Vacuumed here, so that the server does not do it by itself during a measurement.
        with psycopg.connect(self.url, autocommit=True) as connection:
            fill = FILL.format(uuid="gen_random_uuid()", numbers=numbers, executors=executors_of(orders))
            for statement in (fill, "VACUUM ANALYZE assigned_order", "CHECKPOINT"):
                connection.execute(statement.encode())

    def copy(self, name: str) -> "PostgresDatabase":
        """Return a copy on the same server."""
        self._primary.execute(f"CREATE DATABASE {name} TEMPLATE {self._name} STRATEGY FILE_COPY", "postgres")
        return PostgresDatabase(self._primary, name)

    def delete(self) -> None:
        """Drop the database."""
        self._primary.execute(f"DROP DATABASE {self._name} WITH (FORCE)", "postgres")
