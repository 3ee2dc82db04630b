"""Sets: calls that wait while the database is busy, and then go to it together.

There is one queue, one thread with one connection, and one reply per call. The thread takes everything that waits as
one set, answers it, and takes what has come meanwhile. So the sets grow with the load, and a set of polls is one query,
a set of writes one transaction with one wait for the disk.

What can go wrong with a set, and what is done about it:

    another process has won a race, or keeps a lock ...... each half is run by itself; a call that is alone, again
    a call cannot be run ................................. each half is run by itself; a call that is alone fails
    the database is away, or nobody knows whether it
      has committed the set .............................. the calls fail
    a call is not answered within ANSWER_TIMEOUT_S ....... it fails, and is not run if it has not begun
"""

import asyncio
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, Protocol

ANSWER_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 10.0
RETRY_PAUSE_S = 0.005
MAX_SET = 500
MAX_WAITING = 5_000


class Call:
    """What somebody wants from the database."""

    __slots__ = ()

    def keys(self) -> Iterable[object]:
        """Return what no two calls of a set may have in common."""
        return ()


class Collision(Exception):
    """Another process was faster, or keeps a lock. Nothing was committed."""


class DatabaseLost(Exception):
    """There is no connection, or it broke, so that nobody knows whether anything was committed."""


class Session(Protocol):
    """A connection that is there when it is needed, and answers sets of calls."""

    def turn(self) -> AbstractContextManager[None]:
        """Wait until the database can be used. Raises DatabaseLost."""

    def run(self, calls: Sequence[Call]) -> list[Any]:
        """Return the results of a set. Raises Collision, DatabaseLost or, having changed nothing, another error."""

    def close(self) -> None:
        """Close the connection."""


class Waiting:
    """A call, and the reply for which its caller waits."""

    __slots__ = ("alone", "call", "cause", "reply")

    def __init__(self, call: Call, reply: "asyncio.Future[Any]") -> None:
        self.call = call
        self.reply = reply
        self.alone = False
        self.cause: Exception | None = None

    def expire(self) -> None:
        """Fail the call, because its time is up."""
        if not self.reply.done():
            error = TimeoutError(f"the database has not answered within {ANSWER_TIMEOUT_S} s")
            error.__cause__ = self.cause
            self.reply.set_exception(error)


class Sets:
    """Calls that go to the database in sets."""

    def __init__(self, session: Session) -> None:
        """Answer sets on the running event loop: for a database that never keeps anybody waiting."""
        self._session = session
        self._loop = asyncio.get_running_loop()
        self._gathering: list[Waiting] = []

    async def result(self, call: Call) -> Any:
        """Return the result of a call. Raises its error."""
        waiting = Waiting(call, self._loop.create_future())
        if not self._gathering:
            # Once per turn of the event loop: the requests that have arrived together make one set.
            self._loop.call_soon(self._hand_over)
        self._gathering.append(waiting)
        timer = self._loop.call_later(ANSWER_TIMEOUT_S, waiting.expire)
        try:
            return await waiting.reply
        finally:
            timer.cancel()

    async def close(self) -> None:
        """Answer the calls that wait, and close the connection."""
        self._hand_over()
        self._session.close()

    def _hand_over(self) -> None:
        gathered, self._gathering = self._gathering, []
        self._work_off(self._session, deque(gathered))

    def _work_off(self, session: Session, waiting: deque[Waiting]) -> None:
        while waiting:
            self._run(session, next_set(waiting), waiting)

    def _run(self, session: Session, calls: list[Waiting], again: deque[Waiting]) -> None:
        """Run calls as one set and answer them; what has to be tried once more goes back to `again`."""
        try:
            with session.turn():
                calls = [waiting for waiting in calls if not waiting.reply.done()]
                results = session.run([waiting.call for waiting in calls]) if calls else []
        except DatabaseLost as error:
            self._answer(calls, error)
        except Exception as error:
            if len(calls) > 1:
                half = len(calls) // 2
                self._run(session, calls[:half], again)
                self._run(session, calls[half:], again)
            elif isinstance(error, Collision):
                [waiting] = calls
                # From now on without others, which would have to wait for the same lock.
                waiting.alone, waiting.cause = True, error
                again.append(waiting)
                time.sleep(random.uniform(0, RETRY_PAUSE_S))
            else:
                self._answer(calls, error)
        else:
            self._answer(calls, results)

    def _answer(self, calls: list[Waiting], outcome: list[Any] | Exception) -> None:
        for number, waiting in enumerate(calls):
            if not waiting.reply.done():
                if isinstance(outcome, Exception):
                    waiting.reply.set_exception(outcome)
                else:
                    waiting.reply.set_result(outcome[number])


class ThreadSets(Sets):
    """Calls that go to the database in sets, on threads."""

    def __init__(self, *sessions: Session) -> None:
        """Start a thread for each session."""
        super().__init__(sessions[0])
        self._arrived: queue.SimpleQueue[list[Waiting] | None] = queue.SimpleQueue()
        # Daemons, because a stop does not wait for a database that has hung.
        self._threads = [
            threading.Thread(target=self._work, args=(session,), name="orders-database", daemon=True)
            for session in sessions
        ]
        for thread in self._threads:
            thread.start()

    async def result(self, call: Call) -> Any:
        """Return the result of a call. Raises its error, or TimeoutError."""
        if self._arrived.qsize() > MAX_WAITING:
            raise RuntimeError("too many calls wait for the database already")
        return await super().result(call)

    async def close(self) -> None:
        """Answer the calls that wait, and close the connections."""
        self._hand_over()
        for _ in self._threads:
            self._arrived.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join, STOP_TIMEOUT_S)

    def _hand_over(self) -> None:
        self._arrived.put(self._gathering)
        self._gathering = []

    def _work(self, session: Session) -> None:
        with suppress(DatabaseLost), session.turn():
            pass  # It may take long where hosts are gone, so it is done before anybody waits.
        waiting: deque[Waiting] = deque()
        closing = False
        while waiting or not closing:
            with suppress(queue.Empty):
                while not closing:
                    arrived = self._arrived.get(block=not waiting)
                    closing = arrived is None
                    waiting.extend(arrived or ())
            self._run(session, next_set(waiting), waiting)
        session.close()

    def _answer(self, calls: list[Waiting], outcome: list[Any] | Exception) -> None:
        # The event loop is closed if this took longer than a stop waits.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(super()._answer, calls, outcome)


def next_set(waiting: deque[Waiting]) -> list[Waiting]:
    """Take the calls of the next set: all that wait, but those that have a key in common with one before them."""
    taken: list[Waiting] = []
    left: list[Waiting] = []
    keys: set[object] = set()
    while waiting and len(taken) < MAX_SET:
        candidate = waiting.popleft()
        of_candidate = set(candidate.call.keys())
        if (candidate.alone and taken) or not keys.isdisjoint(of_candidate):
            left.append(candidate)
            continue
        taken.append(candidate)
        keys |= of_candidate
        if candidate.alone:
            break
    waiting.extendleft(reversed(left))
    return taken
