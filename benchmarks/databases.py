"""The databases of the measured servers, and a fast way to fill them with orders."""

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

# For both databases. The newest orders are active, one per executor of each phase; the others are final.
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
    """Return the number of executors of each phase for a database with `orders` orders."""
    return min(orders // 4, 150_000)


class Database(Protocol):
    """The database of a measured server."""

    @property
    def url(self) -> str:
        """The URL of the database, as `orders serve` takes it."""

    @property
    def processes(self) -> Sequence[int]:
        """The first processes of the database server. Their CPU time and memory count as the measured server's."""

    def fill(self, orders: int) -> None:
        """Store this many orders in the table, which must exist."""

    def copy(self, name: str) -> "Database":
        """Return a copy of the database, which must not be in use."""

    def delete(self) -> None:
        """Delete the database, which must not be in use."""


class SqliteFile:
    """An SQLite file."""

    processes: Sequence[int] = ()

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def url(self) -> str:
        """The URL of the file."""
        return f"sqlite:///{self.path}"

    def fill(self, orders: int) -> None:
        """Store this many orders in the table."""
        numbers = SQLITE_NUMBERS.format(last=orders - 1)
        with closing(sqlite3.connect(self.path)) as connection:
            # The indexes are written in random order, so give them a gigabyte of cache.
            connection.execute("PRAGMA cache_size = -1000000")
            with connection:
                connection.execute(FILL.format(uuid=SQLITE_UUID, numbers=numbers, executors=executors_of(orders)))
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def copy(self, name: str) -> "SqliteFile":
        """Return a copy in the same directory."""
        path = self.path.with_name(f"{name}.db")
        shutil.copyfile(self.path, path)
        # Otherwise, the first commits would wait until the whole copy is on disk.
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
        return SqliteFile(path)

    def delete(self) -> None:
        """Delete the file and the files that SQLite keeps with it."""
        for file in self.path.parent.glob(f"{self.path.name}*"):
            file.unlink()


class PostgresDatabase:
    """A database of a PostgreSQL server."""

    def __init__(self, primary: PostgreSQL, name: str = "orders", standby: PostgreSQL | None = None) -> None:
        """Use the database `name` of the server `primary`. With a `standby`, commits wait for that server too."""
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
        """The URL of the database."""
        return self._primary.url_of(self._name)

    def fill(self, orders: int) -> None:
        """Store this many orders in the table."""
        numbers = f"generate_series({orders - 1}, 0, -1) AS n"
        # Vacuum now, so that PostgreSQL does not do it during a measurement.
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
