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

from orders.storage import sqlite
from orders.storage.sets import Session


class DatabaseURLError(ValueError):
    """The service does not understand the database URL."""


@dataclass(frozen=True, slots=True)
class DatabaseURL:
    """A parsed `--database`.

    `kind` is "sqlite" or "postgresql". `address` is the path of an SQLite file, `:memory:`, or a URL for libpq.
    """

    kind: str
    address: str

    @classmethod
    def parse(cls, url: str) -> "DatabaseURL":
        """Parse `sqlite:///relative.db`, `sqlite:////absolute.db`, `sqlite:///:memory:` or `postgresql://…`.

        Raises DatabaseURLError, with a message for the user, for any other URL.
        """
        scheme, separator, _ = url.partition("://")
        if not separator:
            raise DatabaseURLError("it is not a database URL like sqlite:///orders.db or postgresql://host/orders")
        kind = "postgresql" if scheme == "postgres" else scheme
        try:
            return cls(kind, _module(kind).parse(url))
        except ValueError as error:
            raise DatabaseURLError(str(error)) from None

    @property
    def in_memory(self) -> bool:
        """Whether the database is in the memory of one process, and is lost when that process ends."""
        return self == DatabaseURL("sqlite", sqlite.MEMORY)


def prepare(url: DatabaseURL) -> None:
    """Create the tables if there are none. Check that existing tables are ours and can be written to.

    Several processes may do this at the same time. Tables and files that are not ours never change. Raises
    CannotOpenDatabase.
    """
    _module(url.kind).prepare(url.address)


def open_sessions(url: DatabaseURL, connections: int) -> tuple[Sequence[Session], Session]:
    """Return the sessions that read, and the one that writes. Call `prepare` first. Raises CannotOpenDatabase.

    `connections` is the number of sessions with PostgreSQL. With SQLite there are always two.
    """
    sessions: tuple[Sequence[Session], Session] = _module(url.kind).open_sessions(url.address, connections)
    return sessions


def check_room(url: DatabaseURL) -> None:
    """Raise DatabaseUnusable if the disk of an SQLite database has no room. The disk of PostgreSQL is not known."""
    if url.kind == "sqlite":
        sqlite.check_room(url.address)


def _module(kind: str) -> ModuleType:
    """Return the module for a kind of database. It has the functions `parse`, `prepare` and `open_sessions`.

    Raises DatabaseURLError if there is none, or if PostgreSQL's package is missing.
    """
    if kind == "sqlite":
        return sqlite
    if kind != "postgresql":
        raise DatabaseURLError(f"unknown database scheme {kind!r} (known: sqlite, postgresql)")
    try:
        from orders.storage import postgresql
    except ModuleNotFoundError as error:
        raise DatabaseURLError(
            f"PostgreSQL needs {error.name}, which the extra postgresql brings: pip install '.[postgresql]'"
        ) from None
    return postgresql
