"""Parses database URLs and opens databases.

SQLite serves one host, PostgreSQL many. The service does the same on both.

              SQLite (`orders.storage.sqlite`)                 PostgreSQL (`orders.storage.postgresql`)
reads         at once, on the event loop               in sets, on threads with a connection each
writes        in sets, on a thread with a connection   in sets, on a thread with a connection
collisions    none: processes take turns               unique indexes and the conditions of the writes
                                                       decide who wins; the others run again
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

from orders.storage import sqlite
from orders.storage.sets import Session


class DatabaseURLError(ValueError):
    """The service does not understand the database URL."""


@dataclass(frozen=True, slots=True)
class DatabaseURL:
    """A parsed `--database`. `address` is an SQLite file's path, `:memory:`, or a connection string for libpq."""

    kind: Literal["sqlite", "postgresql"]
    address: str

    @classmethod
    def parse(cls, url: str) -> "DatabaseURL":
        """Parse `sqlite:///relative.db`, `sqlite:////absolute.db`, `sqlite:///:memory:` or `postgresql://…`.

        Raises DatabaseURLError, with a message for the user, for any other URL.
        """
        scheme, separator, path = url.partition("://")
        if not separator:
            raise DatabaseURLError("it is not a database URL like sqlite:///orders.db or postgresql://host/orders")
        if scheme in ("postgresql", "postgres"):
            try:
                return cls("postgresql", _postgresql().parse(url))
            except ValueError as error:
                raise DatabaseURLError(str(error)) from None
        if scheme != "sqlite":
            raise DatabaseURLError(f"unknown database scheme {scheme!r} (known: sqlite, postgresql)")
        if not path.startswith("/") or path in ("/", "//") or "\0" in path:
            raise DatabaseURLError(f"{url!r} names no file; write sqlite:///relative.db or sqlite:////absolute.db")
        if "?" in path:
            raise DatabaseURLError(f"{url!r} has options, which an SQLite URL does not take")
        return cls("sqlite", path[1:])

    @property
    def in_memory(self) -> bool:
        """Whether the database is in the memory of one process, and is lost when that process ends."""
        return self == DatabaseURL("sqlite", sqlite.MEMORY)


def prepare(url: DatabaseURL) -> None:
    """Create the tables if there are none. Check that existing tables are ours and can be written to.

    Several processes may do this at the same time. Raises CannotOpenDatabase. It never changes what is not ours.
    """
    module = sqlite if url.kind == "sqlite" else _postgresql()
    module.prepare(url.address)


def open_sessions(url: DatabaseURL, connections: int) -> tuple[Sequence[Session], Session]:
    """Return the sessions that read, and the one that writes. Call `prepare` first. Raises CannotOpenDatabase.

    `connections` is the number of sessions with PostgreSQL. SQLite has two.
    """
    if url.kind == "sqlite":
        return sqlite.open_sessions(url.address)
    sessions: tuple[Sequence[Session], Session] = _postgresql().open_sessions(url.address, connections)
    return sessions


def _postgresql() -> ModuleType:
    """Import the module for PostgreSQL. Raises DatabaseURLError if a package is missing that only PostgreSQL needs."""
    try:
        from orders.storage import postgresql
    except ModuleNotFoundError as error:
        raise DatabaseURLError(
            f"PostgreSQL needs {error.name}, which the extra postgresql brings: pip install '.[postgresql]'"
        ) from None
    return postgresql
