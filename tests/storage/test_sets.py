"""Sets of calls: which calls share a set, what a call that fails does to the others, and sets of two processes."""

import asyncio
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from harness.server import TIMEOUT_S, execute
from orders.lifecycle import Orders
from orders.storage import sqlite
from orders.storage.queries import Queries, Rows, Statement
from orders.storage.sets import (
    MAX_SET,
    Call,
    CallQueue,
    Collision,
    DatabaseLost,
    DatabaseUnusable,
    Session,
    next_set,
)
from tests.storage.scenarios import prepare, run

# ORDERS_TEST_ROUNDS=3000 takes about a minute.
ROUNDS = int(os.environ.get("ORDERS_TEST_ROUNDS", "60"))


class Recorder:
    """Records its sets. Answers each call with its order_id, or fails with the error that `fault` returns."""

    queries = Queries(sqlite.DIALECT)

    def __init__(self, waits: bool = True) -> None:
        self.waits = waits
        self.sets: list[list[str]] = []
        self.may_go_on = threading.Event()
        self.fault: Callable[[list[str]], Exception | None] = lambda order_ids: None

    def turn(self) -> AbstractContextManager[None]:
        """Wait until the scenario sets `may_go_on`, if this session waits."""
        if self.waits:
            self.may_go_on.wait(60)
        return nullcontext()

    def trip(self, *statements: Statement | None) -> list[Rows]:
        """Do nothing."""
        return []

    def work(self, session: Session, calls: list[Call]) -> list[Any]:
        """Record a set and answer it."""
        order_ids = [call.order_id for call in calls]
        self.sets.append(order_ids)
        if error := self.fault(order_ids):
            raise error
        return order_ids

    def give_up(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def with_recorder(scenario: Callable[[Recorder, CallQueue], Awaitable[None]], waits: bool = True) -> None:
    """Run a scenario with a recorder, which waits until the scenario sets `may_go_on` or ends."""

    async def run_scenario() -> None:
        recorder = Recorder(waits)
        queue = CallQueue(recorder.work, recorder)
        try:
            await scenario(recorder, queue)
        finally:
            recorder.may_go_on.set()
            await queue.close()

    asyncio.run(run_scenario())


def test_no_two_calls_of_a_set_have_an_order_or_an_executor_in_common() -> None:
    """A call that names the order or executor of an earlier call waits for the next set, and goes first there."""
    first, same_executor = Call("assign", "1", "a", "zone"), Call("assign", "2", "a", "zone")
    same_order, other, cancel = Call("assign", "1", "b", "zone"), Call("assign", "3", "c", "zone"), Call("cancel", "3")
    acquire, cancel_other = Call("acquire", "1"), Call("cancel", "a")
    waiting = deque([first, same_executor, same_order, other, cancel, acquire, cancel_other])
    assert next_set(waiting) == [cancel_other, first, other]
    assert next_set(waiting) == [cancel, same_executor, same_order]
    assert next_set(waiting) == [acquire]
    assert next_set(waiting) == []


def test_polls_of_one_executor_go_together() -> None:
    """Calls that only read may share a set, even for the same executor."""
    polls = [Call("poll", executor_id="a") for _ in range(3)]
    assert next_set(deque(polls)) == polls


def test_a_set_has_a_largest_size() -> None:
    """Calls beyond the largest size go to the next set, in the order in which they arrived."""
    calls = [Call("cancel", f"{number:03}") for number in range(MAX_SET + 1)]
    waiting = deque(calls)
    assert [next_set(waiting), next_set(waiting)] == [calls[:-1], calls[-1:]]


def test_calls_gather_while_the_database_is_busy() -> None:
    """Calls that arrive while a set runs go together as the next set."""

    async def scenario(recorder: Recorder, queue: CallQueue) -> None:
        calls = [asyncio.create_task(queue.result(Call("cancel", str(number)))) for number in range(5)]
        await asyncio.sleep(0.1)
        calls += [asyncio.create_task(queue.result(Call("cancel", str(number)))) for number in range(5, 10)]
        await asyncio.sleep(0.1)
        recorder.may_go_on.set()
        assert await asyncio.gather(*calls) == [str(number) for number in range(10)]
        assert len(recorder.sets) <= 2

    with_recorder(scenario)


def test_a_call_that_has_waited_too_long_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a client was told that the database did not answer, its call does not change the order later."""

    async def scenario(recorder: Recorder, queue: CallQueue) -> None:
        with monkeypatch.context() as impatient, pytest.raises(TimeoutError, match="has not answered within"):
            impatient.setattr("orders.storage.sets.ANSWER_TIMEOUT_S", 0.2)
            await queue.result(Call("cancel", "late"))
        recorder.may_go_on.set()
        assert await queue.result(Call("cancel", "in time")) == "in time"
        assert recorder.sets == [["in time"]]

    with_recorder(scenario)


def test_a_call_that_collides_is_tried_again_by_itself() -> None:
    """The other calls are answered at once, and do not wait for the call that collides (D12)."""

    async def scenario(recorder: Recorder, queue: CallQueue) -> None:
        collisions = iter(range(5))
        recorder.fault = lambda ids: Collision() if "held" in ids and next(collisions, None) is not None else None
        calls = [queue.result(Call("cancel", str(number))) for number in range(3)]
        recorder.may_go_on.set()
        outcomes = await asyncio.gather(*calls, queue.result(Call("cancel", "held")))
        assert outcomes[-1] == "held"
        assert recorder.sets[-1] == recorder.sets[-2] == ["held"]

    with_recorder(scenario)


def test_a_lock_does_not_hold_up_the_event_loop() -> None:
    """Calls that run on the event loop and collide are tried again later. In the meantime, the loop does other work."""

    async def scenario(recorder: Recorder, queue: CallQueue) -> None:
        is_locked = True
        recorder.fault = lambda ids: Collision() if is_locked else None
        calls = [asyncio.create_task(queue.result(Call("cancel", str(number)))) for number in range(3)]
        while len(recorder.sets) < 3:
            await asyncio.sleep(0.001)
        is_locked = False
        assert await asyncio.gather(*calls) == ["0", "1", "2"]
        assert all(len(each) == 3 for each in recorder.sets), recorder.sets

    with_recorder(scenario, waits=False)


def test_a_database_that_is_unusable_is_asked_once_per_set() -> None:
    """If the database cannot be used, all calls of the set fail, and the queue knows why until a set succeeds."""

    async def scenario(recorder: Recorder, queue: CallQueue) -> None:
        recorder.fault = lambda ids: DatabaseUnusable("the disk is full")
        calls = [queue.result(Call("cancel", str(number))) for number in range(5)]
        recorder.may_go_on.set()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(outcome, DatabaseUnusable) for outcome in outcomes), outcomes
        assert sum(map(len, recorder.sets)) == 5
        assert str(queue.failure) == "the disk is full"
        recorder.fault = lambda ids: None
        await queue.result(Call("cancel", "later"))
        assert queue.failure is None

    with_recorder(scenario)


def test_a_set_that_may_have_been_committed_does_not_run_again() -> None:
    """If the connection breaks during the commit, all calls of the set fail, and none of them runs twice."""

    async def scenario(recorder: Recorder, queue: CallQueue) -> None:
        recorder.fault = lambda ids: DatabaseLost()
        calls = [queue.result(Call("cancel", str(number))) for number in range(5)]
        recorder.may_go_on.set()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(outcome, DatabaseLost) for outcome in outcomes), outcomes
        assert sum(map(len, recorder.sets)) == 5

    with_recorder(scenario)


def test_the_queue_has_a_largest_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the database hangs, a call is refused at once if too many calls wait already."""
    monkeypatch.setattr("orders.storage.sets.MAX_WAITING", 3)

    async def scenario(recorder: Recorder, queue: CallQueue) -> None:
        calls = []
        for number in range(10):
            calls.append(asyncio.create_task(queue.result(Call("cancel", str(number)))))
            await asyncio.sleep(0.01)
        refused = [call for call in calls if call.done()]
        assert refused and all("too many calls" in str(call.exception()) for call in refused)
        recorder.may_go_on.set()
        await asyncio.gather(*(call for call in calls if call not in refused))

    with_recorder(scenario)


def test_the_calls_of_a_request_share_one_limit(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the read of an acquire has taken all the time that a request has, its write does not begin."""

    async def scenario(orders: Orders) -> None:
        await orders.assign("order", "executor", "zone")
        read = orders._reads.result

        async def slow_read(call: Call, deadline: float | None = None) -> Any:
            result = await read(call, deadline)
            await asyncio.sleep(0.2)
            return result

        with monkeypatch.context() as slow:
            slow.setattr("orders.storage.sets.ANSWER_TIMEOUT_S", 0.1)
            slow.setattr(orders._reads, "result", slow_read)
            with pytest.raises(TimeoutError):
                await orders.acquire("executor")
        assert await orders.orders({"execution_status": "acquired"}, 1) == (0, [])

    prepare(database)
    run(database, scenario)


def poison(url: str) -> None:
    """Make the database refuse the order `bad` when it is inserted."""
    if url.startswith("sqlite:"):
        execute(
            url,
            "CREATE TRIGGER fault BEFORE INSERT ON assigned_order WHEN NEW.order_id = 'bad'"
            " BEGIN SELECT RAISE(ABORT, 'poisoned'); END",
        )
    else:
        execute(url, "ALTER TABLE assigned_order ADD CONSTRAINT poisoned CHECK (order_id <> 'bad')")


def test_a_poisoned_call_does_not_spoil_its_set(any_database: str) -> None:
    """If one call of a set cannot run, only this call fails, and it changes nothing (D3)."""

    async def scenario(orders: Orders) -> None:
        await orders.assign("earlier", "executor-bad", "zone")
        poison(any_database)
        calls = [
            *(orders.assign(f"before-{n}", f"executor-before-{n}", "zone") for n in range(10)),
            orders.assign("bad", "executor-bad", "zone"),
            *(orders.assign(f"after-{n}", f"executor-after-{n}", "zone") for n in range(10)),
        ]
        outcomes: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
        assert "poisoned" in str(outcomes.pop(10))
        assert outcomes == [True] * 20
        profile = await orders.acquire("executor-bad")
        assert profile and profile["order_id"] == "earlier", "the failed assign has completed the earlier order"
        assert await orders.cancel("bad") is False

    prepare(any_database)
    run(any_database, scenario)


def test_a_set_of_the_largest_size_with_the_longest_ids(any_database: str) -> None:
    """A set of the largest size succeeds, even if each id has 255 characters of 4 bytes (D7)."""
    ids = [f"{number:03}".ljust(255, "😀") for number in range(MAX_SET)]

    async def scenario(orders: Orders) -> None:
        assert await asyncio.gather(*(orders.assign(each, each, each) for each in ids)) == [True] * MAX_SET
        # To other executors, which are all different, so that these assigns share a set.
        assert await asyncio.gather(*(orders.assign(each, each[::-1], each) for each in ids)) == [False] * MAX_SET
        profiles = await asyncio.gather(*map(orders.acquire, ids))
        assert [(p["order_id"], p["executor_id"], p["zone_id"]) for p in profiles if p] == [(e, e, e) for e in ids]
        assert await asyncio.gather(*map(orders.acquire, ids)) == profiles
        assert await asyncio.gather(*map(orders.cancel, ids)) == [True] * MAX_SET
        assert await asyncio.gather(*map(orders.acquire, ids)) == [None] * MAX_SET

    prepare(any_database)
    run(any_database, scenario)


WIDTH = 16


def overlap(url: str, number: int, barrier: Barrier, report: Connection) -> None:
    """Send sets that share every key with another process's sets. Report the results or the error."""

    async def scenario(orders: Orders) -> list[Any]:
        rounds = []
        for round_number in range(ROUNDS):
            # Both use the same orders and executors, in different sequences, and the orders of the last round.
            order_ids = [f"{round_number}-{n}" for n in range(WIDTH)][:: 1 if number else -1]
            earlier = [f"{round_number - 1}-{n}" for n in range(WIDTH)][:: -1 if number else 1]
            barrier.wait(TIMEOUT_S)
            outcomes: list[Any] = await asyncio.gather(
                *(
                    orders.assign(order_id, f"executor-{(n + number) % WIDTH}", "zone")
                    for n, order_id in enumerate(order_ids)
                ),
                *(orders.cancel(order_id) for order_id in earlier),
                *(orders.acquire(f"executor-{n}") for n in range(WIDTH)),
            )
            created = {order_id for order_id, new in zip(order_ids, outcomes[:WIDTH], strict=True) if new}
            cancelled = {o for o, active in zip(earlier, outcomes[WIDTH : 2 * WIDTH], strict=True) if active}
            acquired = {profile["order_id"]: profile for profile in outcomes[2 * WIDTH :] if profile}
            rounds.append((created, cancelled, acquired))
        return rounds

    try:
        report.send(run(url, scenario))
    except BaseException as error:
        barrier.abort()
        report.send(repr(error))


def test_two_processes_whose_sets_overlap_in_every_key(any_database: str) -> None:
    """Every order is created once and cancelled at most once, and no call fails because of a race (D12)."""
    prepare(any_database)
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    pipes = [context.Pipe(duplex=False) for _ in range(2)]
    processes = [
        context.Process(target=overlap, args=(any_database, number, barrier, report))
        for number, (_, report) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    one, other = (received.recv() if received.poll(2 * TIMEOUT_S) else "no report" for received, _ in pipes)
    for process in processes:
        process.join()
        process.close()
    for pipe in pipes:
        for end in pipe:
            end.close()
    assert isinstance(one, list) and isinstance(other, list), (one, other)
    for number, ((created, cancelled, acquired), theirs) in enumerate(zip(one, other, strict=True)):
        assert not created & theirs[0] and not cancelled & theirs[1], "both processes have won the same race"
        assert created | theirs[0] == {f"{number}-{n}" for n in range(WIDTH)}, "neither process has won a race"
        for order_id in acquired.keys() & theirs[2].keys():
            assert acquired[order_id] == theirs[2][order_id], "an order was acquired twice"
    active = "SELECT count(*), count(DISTINCT executor_id) FROM assigned_order"
    ((rows, executors),) = execute(any_database, f"{active} WHERE execution_status IN ('assigned', 'acquired')")
    assert rows == executors, "an executor has two active orders"
