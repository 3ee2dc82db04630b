"""What the two kinds of databases have in common: how calls are handed to them, and how they refuse."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from orders.book import OrderBook

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

    def run(self, call: Callable[[OrderBook], T]) -> "T | asyncio.Future[T]":
        """Run `call`; return its result, or a future of it if it has to wait.

        What a call writes is one transaction, and its result is given out after the commit (D13). A call may be
        run more than once; what an earlier run wrote is undone. A call that only reads may make one query: there
        is no transaction around it.
        """

    async def close(self) -> None:
        """Finish what was begun and close the database."""


@dataclass(slots=True)
class Job(Generic[T]):
    """A call that waits for its turn, and the future of its result."""

    call: Callable[[OrderBook], T]
    future: "asyncio.Future[T]"
    result: T | None = None
    error: Exception | None = None
    begun: float = field(default_factory=time.monotonic)
    timer: asyncio.TimerHandle | None = None

    def expire(self) -> None:
        """Give up waiting; the call may still be done."""
        self.error = TimeoutError(f"the database took longer than {time.monotonic() - self.begun:.1f} s")
        self.resolve()

    def resolve(self) -> None:
        """Hand the outcome to whoever waits for it, if they still do."""
        if self.timer is not None:
            self.timer.cancel()
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)  # type: ignore[arg-type]
