"""Queues calls while the database is busy, and runs them in sets; retries a set that fails.

There is one queue, one thread per connection, and one reply per call. The thread takes all waiting calls as one set
and answers them. Then it takes the calls that have arrived in the meantime. So the sets grow with the load. A set of
polls is one query. A set of writes is one transaction, with one wait for the disk. This is what happens when a set
fails:

    another process won a race, or holds a lock ..... each half runs by itself; a single call is tried again
    a call cannot run ............................... each half runs by itself; a single call fails
    the database is away or cannot be used, or it is
      unknown whether it committed the set .......... the calls fail
    a call has no answer before its deadline ........ the call fails, and does not run if it has not begun
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Literal, Protocol

from orders.storage.queries import Queries, Rows, Statement

# A request has an answer within this time, even if it needs several calls.
ANSWER_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 5.0
RETRY_PAUSE_S = 0.005
MAX_SET = 500
# The calls that arrive in one turn of the event loop are queued as one entry. This is the most entries that may wait.
MAX_WAITING = 5_000


class Collision(Exception):
    """Another process was faster, or holds a lock. Nothing was committed."""


class DatabaseLost(Exception):
    """There is no connection, or it broke and it is unknown whether anything was committed."""


class DatabaseUnusable(Exception):
    """The database cannot be used at the moment, for example because the disk is full.

    The message gives the reason in a few words. It has no secrets: `/health` shows it.
    """


@dataclass(slots=True, eq=False)
class Call:
    """A call to the database, and the reply that its caller waits for."""

    kind: Literal["poll", "assign", "acquire", "cancel", "statement"]
    order_id: str = ""
    executor_id: str = ""
    zone_id: str = ""
    statement: Statement | None = None
    reply: "asyncio.Future[Any]" = field(init=False)
    last_collision: Exception | None = None

    def keys(self) -> set[tuple[str, str]]:
        """Return the order and the executor that no other call of the set may name. A poll has neither."""
        if self.kind == "poll":
            return set()
        return {("order", self.order_id), ("executor", self.executor_id)} - {("order", ""), ("executor", "")}

    def answer(self, outcome: Any) -> None:
        """Give the caller a result, or an error to raise, unless there is a reply already."""
        if self.reply.done():
            return
        if isinstance(outcome, Exception):
            self.reply.set_exception(outcome)
        else:
            self.reply.set_result(outcome)


class Session(Protocol):
    """A connection to a database."""

    queries: Queries
    # Whether a trip may have to wait, so that the session needs a thread.
    waits: bool

    def turn(self) -> AbstractContextManager[None]:
        """Wait until the database can be used, and roll back what fails.

        Raises Collision, DatabaseLost and DatabaseUnusable.
        """

    def trip(self, *statements: Statement | None) -> list[Rows]:
        """Execute statements; return the rows of each."""

    def give_up(self) -> None:
        """Stop waiting for a database that hangs. Runs on the event loop's thread."""

    def close(self) -> None:
        """Close the connection."""


Work = Callable[[Session, list[Call]], list[Any]]


class CallQueue:
    """A queue of calls that go to a database in sets."""

    def __init__(self, work: Work, *sessions: Session) -> None:
        """Run sets with `work`: on one thread per session, or on the event loop if a session never waits."""
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._sessions = sessions
        # Why the last set failed, if the database could not be used.
        self.failure: DatabaseUnusable | None = None
        self._gathering: list[Call] = []
        self._arrived: SimpleQueue[list[Call] | None] = SimpleQueue()
        # Daemon threads, because a stop does not wait for a database that hangs.
        waiting = [session for session in sessions if session.waits]
        self._threads = [Thread(target=self._serve, args=(session,), daemon=True) for session in waiting]
        for thread in self._threads:
            thread.start()

    def deadline(self) -> float:
        """Return when a request that arrives now must have its answer, as a time of the event loop."""
        return self._loop.time() + ANSWER_TIMEOUT_S

    async def result(self, call: Call, deadline: float | None = None) -> Any:
        """Queue a call and return its result. Calls of one request share a deadline.

        Raises the call's own error, TimeoutError, or RuntimeError if too many calls wait already.
        """
        if self._arrived.qsize() > MAX_WAITING:
            raise RuntimeError("too many calls wait for the database already")
        if deadline is None:
            deadline = self.deadline()
        elif deadline < self._loop.time():
            raise no_answer()
        call.reply = self._loop.create_future()
        if not self._gathering:
            # Once per turn of the event loop, so that requests that arrive together make one set.
            self._loop.call_soon(self._hand_over)
        self._gathering.append(call)
        timer = self._loop.call_at(deadline, self._expire, call)
        try:
            return await call.reply
        finally:
            timer.cancel()

    async def close(self) -> None:
        """Answer the calls that wait, and close the connections."""
        self._hand_over()
        for _ in self._threads:
            self._arrived.put(None)
        await asyncio.gather(*(asyncio.to_thread(thread.join, STOP_TIMEOUT_S) for thread in self._threads))
        if not self._threads:
            self._sessions[0].close()

    def _expire(self, call: Call) -> None:
        error = no_answer()
        error.__cause__ = call.last_collision
        call.answer(error)
        for session in self._sessions:
            session.give_up()

    def _hand_over(self) -> None:
        gathered, self._gathering = self._gathering, []
        if self._threads:
            self._arrived.put(gathered)
            return
        waiting, retries = deque(gathered), deque[Call]()
        while waiting:
            self._run(self._sessions[0], next_set(waiting), retries)
        if retries:
            # Later, because the event loop must not wait for a lock.
            self._gathering = [*retries]
            self._loop.call_later(RETRY_PAUSE_S, self._hand_over)

    def _serve(self, session: Session) -> None:
        """Run set after set on this thread, until the queue is closed and empty."""
        # It can take long to connect if a host is down, so this begins before the first call. If it fails, the first
        # call tries again.
        with suppress(Exception), session.turn():
            pass
        waiting: deque[Call] = deque()
        retries: deque[Call] = deque()
        is_closing = False
        while waiting or retries or not is_closing:
            with suppress(Empty):
                while not is_closing:
                    arrived = self._arrived.get(block=not (waiting or retries))
                    is_closing = arrived is None
                    waiting.extend(arrived or ())
            if waiting:
                self._run(session, next_set(waiting), retries)
            if retries:
                # Only one, so that other calls wait for at most one call that waits for a lock.
                self._run(session, [retries.popleft()], retries)
        session.close()

    def _run(self, session: Session, calls: list[Call], retries: deque[Call]) -> None:
        """Run calls as one set and answer them. Add calls that must be tried again to `retries`."""
        failure: Exception | None = None
        try:
            with session.turn():
                calls = [call for call in calls if not call.reply.done()]
                outcomes = self._work(session, calls) if calls else []
        except Exception as error:
            failure = error
            outcomes = [error] * len(calls)
        if calls:
            self.failure = failure if isinstance(failure, DatabaseUnusable) else None
        if isinstance(failure, Collision) and (len(calls) == 1 or not self._threads):
            for call in calls:
                call.last_collision = failure
            retries.extend(calls)
            if self._threads:
                time.sleep(random.uniform(0, RETRY_PAUSE_S))
        elif failure is not None and len(calls) > 1 and not isinstance(failure, DatabaseLost | DatabaseUnusable):
            half = len(calls) // 2
            self._run(session, calls[:half], retries)
            self._run(session, calls[half:], retries)
        else:
            self._answer(calls, outcomes)

    def _answer(self, calls: list[Call], outcomes: list[Any]) -> None:
        """Give each call its outcome, on the event loop's thread."""

        def answer() -> None:
            for call, outcome in zip(calls, outcomes, strict=True):
                call.answer(outcome)

        if not self._threads:
            answer()
        else:
            # The event loop is closed already if the set took longer than STOP_TIMEOUT_S.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(answer)


def no_answer() -> TimeoutError:
    """Return the error of a call that has no answer in time."""
    return TimeoutError(f"the database has not answered within {ANSWER_TIMEOUT_S} s")


def next_set(waiting: deque[Call]) -> list[Call]:
    """Take the next set from `waiting`: the first calls that share no key, at most MAX_SET."""
    taken: list[Call] = []
    left: list[Call] = []
    keys: set[tuple[str, str]] = set()
    for _ in range(min(len(waiting), MAX_SET)):
        call = waiting.popleft()
        if keys.isdisjoint(call.keys()):
            taken.append(call)
            keys |= call.keys()
        else:
            left.append(call)
    waiting.extendleft(reversed(left))
    # Sorted, because two processes that lock rows in the same order seldom deadlock.
    return sorted(taken, key=lambda call: (call.executor_id, call.order_id))
