"""Calls that have to wait, and those who wait for them."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

logger = logging.getLogger("orders")


class Job(Generic[T]):
    """A call that waits for its turn.

    It is a future whose callback is called at once: that of an asyncio future waits for the next turn of the event
    loop, which under load takes as long as a request of every client.
    """

    __slots__ = ("_callback", "_done", "_otherwise", "begun", "call", "error", "result", "timer")

    def __init__(self, call: Callable[[Any], T]) -> None:
        self.call = call
        self.result: T | None = None
        self.error: Exception | None = None
        self.begun = time.monotonic()
        self.timer: asyncio.TimerHandle | None = None
        self._done = False
        self._callback: Callable[[Job[T]], None] | None = None
        self._otherwise: Callable[[Exception], T] | None = None

    @property
    def done(self) -> bool:
        """Whether there is an outcome."""
        return self._done

    def outcome(self) -> T:
        """Return the result of a job that is done, or raise its error."""
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]

    def otherwise(self, otherwise: Callable[[Exception], T]) -> "Job[T]":
        """Have `otherwise` make a result of an error; return the job."""
        self._otherwise = otherwise
        return self

    def when_done(self, callback: Callable[["Job[T]"], None]) -> None:
        """Have `callback` called when there is an outcome, on the event loop's thread."""
        self._callback = callback
        if self._done:
            callback(self)

    def expire(self) -> None:
        """Give up waiting, with an error; the call may still be run."""
        self.error = TimeoutError(f"the database took longer than {time.monotonic() - self.begun:.1f} s")
        self.resolve()

    def resolve(self) -> None:
        """Say, on the event loop's thread, that `result` or `error` is there; it counts once."""
        if self._done:
            return
        self._done = True
        if self.timer is not None:
            self.timer.cancel()
        try:
            if self.error is not None and self._otherwise is not None:
                self.result, self.error = self._otherwise(self.error), None
            if self._callback is not None:
                self._callback(self)
            self._callback = self._otherwise = None
        except Exception:
            # Whoever resolves many jobs has to go on to the next.
            logger.exception("a result could not be handed out")
