"""What the two kinds of databases have in common: how calls are handed to them, and how they refuse."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from orders.book import OrderBook
from orders.jobs import Job

T = TypeVar("T")


class CannotOpenDatabase(Exception):
    """The database cannot be used; the message says why."""


class WriteNeeded(Exception):
    """A call that was tried where nothing is written has to write."""


def refuse_to_write() -> None:
    """Raise WriteNeeded: what a book does before a write, where nothing is written."""
    raise WriteNeeded


class Store(Protocol):
    """A database that is open, in one process."""

    def run(self, call: Callable[[OrderBook], T]) -> T | Job[T]:
        """Run `call`; return its result, or a job if it has to wait.

        What a call writes is one transaction, and its result is given out after the commit (D13). A call may be
        run more than once; what an earlier run wrote is undone. A call that only reads may make one query: there
        is no transaction around it.
        """

    async def close(self) -> None:
        """Finish what was begun and close the database."""
