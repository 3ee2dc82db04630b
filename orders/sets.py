"""Sets: calls that wait while the database is busy, and then go to it together.

There is one queue, one thread with one connection, and one reply per call. The thread takes everything that waits as
one set, answers it, and takes what has come meanwhile. So the sets grow with the load: a set of polls is one query, a
set of writes one transaction with one wait for the disk. What can go wrong with a set, and what is done about it:

    another process has won a race, or keeps a lock ...... each half is run by itself; a call that is alone, again
    a call cannot be run ................................. each half is run by itself; a call that is alone fails
    the database is away, or nobody knows whether it
      has committed the set .............................. the calls fail
    a call is not answered within ANSWER_TIMEOUT_S ....... it fails, and is not run if it has not begun
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

from orders.queries import Queries, Rows, Statement

ANSWER_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 5.0
RETRY_PAUSE_S = 0.005
MAX_SET = 500
# How many turns of the event loop may have calls that wait.
MAX_WAITING = 5_000


class Collision(Exception):
    """Another process was faster, or keeps a lock. Nothing was committed."""


class DatabaseLost(Exception):
    """There is no connection, or it broke, so that nobody knows whether anything was committed."""


@dataclass(slots=True, eq=False)
class Call:
    """What somebody wants from the database, and the reply for which they wait."""

    kind: Literal["poll", "assign", "acquire", "cancel", "statement"]
    order_id: str = ""
    executor_id: str = ""
    zone_id: str = ""
    statement: Statement | None = None
    reply: "asyncio.Future[Any]" = field(init=False)
    cause: Exception | None = None

    def keys(self) -> set[tuple[str, str]]:
        """Return what no two calls of a set may have in common."""
        if self.kind == "poll":
            return set()
        return {("order", self.order_id), ("executor", self.executor_id)} - {("order", ""), ("executor", "")}

    def expire(self) -> None:
        """Fail, because the time is up."""
        if not self.reply.done():
            error = TimeoutError(f"the database has not answered within {ANSWER_TIMEOUT_S} s")
            error.__cause__ = self.cause
            self.reply.set_exception(error)


class Session(Protocol):
    """A connection to a database."""

    queries: Queries

    def turn(self) -> AbstractContextManager[None]:
        """Wait until the database can be used, and undo what fails. Raises Collision and DatabaseLost."""

    def trip(self, *statements: Statement | None) -> list[Rows]:
        """Execute statements; return the rows of each."""

    def give_up(self) -> None:
        """Stop waiting for a database that hangs. Called on the event loop's thread."""

    def close(self) -> None:
        """Close the connection."""


Work = Callable[[Session, list[Call]], list[Any]]


class Sets:
    """Calls that go to a database in sets."""

    def __init__(self, work: Work, *sessions: Session, threads: bool = True) -> None:
        """Have sets answered by `work`: on a thread per session, or on the event loop where nothing has to wait."""
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._sessions = sessions
        self._gathering: list[Call] = []
        self._arrived: SimpleQueue[list[Call] | None] = SimpleQueue()
        # Daemons, because a stop does not wait for a database that has hung.
        self._threads = [Thread(target=self._serve, args=(session,), daemon=True) for session in sessions if threads]
        for thread in self._threads:
            thread.start()

    async def result(self, call: Call) -> Any:
        """Return the result of a call. Raises its error, or TimeoutError."""
        if self._arrived.qsize() > MAX_WAITING:
            raise RuntimeError("too many calls wait for the database already")
        call.reply = self._loop.create_future()
        if not self._gathering:
            # Once per turn of the event loop: the requests that have arrived together make one set.
            self._loop.call_soon(self._hand_over)
        self._gathering.append(call)
        timer = self._loop.call_later(ANSWER_TIMEOUT_S, self._expire, call)
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
        call.expire()
        for session in self._sessions:
            session.give_up()

    def _hand_over(self) -> None:
        gathered, self._gathering = self._gathering, []
        if self._threads:
            self._arrived.put(gathered)
        else:
            waiting = deque(gathered)
            while waiting:
                self._run(self._sessions[0], next_set(waiting), waiting)

    def _serve(self, session: Session) -> None:
        """Run set after set, on a thread, until there is nothing left to do."""
        # Connecting takes long where a host is down, so it begins before the first call, which tries again if it fails.
        with suppress(Exception), session.turn():
            pass
        waiting: deque[Call] = deque()
        held: deque[Call] = deque()
        is_closing = False
        while waiting or held or not is_closing:
            with suppress(Empty):
                while not is_closing:
                    arrived = self._arrived.get(block=not (waiting or held))
                    is_closing = arrived is None
                    waiting.extend(arrived or ())
            if waiting:
                self._run(session, next_set(waiting), held)
            if held:
                # One at a time, so that those who wait for a lock hold up nobody else for longer than one of them does.
                self._run(session, [held.popleft()], held)
        session.close()

    def _run(self, session: Session, calls: list[Call], held: deque[Call]) -> None:
        """Run calls as one set and answer them; a single call that collides is added to `held`, to be tried again."""
        failure: Exception | None = None
        try:
            with session.turn():
                calls = [call for call in calls if not call.reply.done()]
                results = self._work(session, calls) if calls else []
        except Exception as error:
            failure = error
        if failure is None:
            self._answer(calls, results)
        elif len(calls) > 1 and not isinstance(failure, DatabaseLost):
            half = len(calls) // 2
            self._run(session, calls[:half], held)
            self._run(session, calls[half:], held)
        elif isinstance(failure, Collision) and self._threads:
            calls[0].cause = failure
            held.extend(calls)
            time.sleep(random.uniform(0, RETRY_PAUSE_S))
        else:
            self._answer(calls, [failure] * len(calls))

    def _answer(self, calls: list[Call], outcomes: list[Any]) -> None:
        """Give each call its outcome: a result, or the error that it raises."""

        def answer() -> None:
            for call, outcome in zip(calls, outcomes, strict=True):
                if call.reply.done():
                    continue
                if isinstance(outcome, Exception):
                    call.reply.set_exception(outcome)
                else:
                    call.reply.set_result(outcome)

        if not self._threads:
            answer()
        else:
            # The event loop is closed if this took longer than a stop waits.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(answer)


def next_set(waiting: deque[Call]) -> list[Call]:
    """Take every waiting call except those that share a key with an earlier one."""
    taken: list[Call] = []
    left: list[Call] = []
    keys: set[tuple[str, str]] = set()
    for call in [waiting.popleft() for _ in range(min(len(waiting), MAX_SET))]:
        if keys.isdisjoint(call.keys()):
            taken.append(call)
            keys |= call.keys()
        else:
            left.append(call)
    waiting.extendleft(reversed(left))
    # Sorted, so that the sets of two processes seldom wait for each other in a circle.
    return sorted(taken, key=lambda call: (call.executor_id, call.order_id))
