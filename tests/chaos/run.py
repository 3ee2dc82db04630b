"""A run: random faults on one system while clients call, and the histories and rows that it leaves."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from random import Random

import pytest

from contract_tests.suite.calls import Order, acquire_request, assign_request
from contract_tests.suite.contract import ALREADY_EXISTS, CREATED
from contract_tests.suite.transport import TRANSPORT_ERRORS, Connection, Request, Response, Step, Target, explain
from harness.server import ServerProcess, execute
from orders.storage.models import COLUMNS, rfc3339
from tests.chaos.clients import ANSWER_TIMEOUT_S, Load
from tests.chaos.faults import ALL_FAULTS, PROCESS_FAULTS, Fault, System, name_of
from tests.chaos.history import History, Row, first_unexplained, shown

FAULT_LENGTHS_S = (0.1, 0.5, 0.5, 1.0, 1.0, 1.5, 7.0)
# How long it may take until a server serves again. No right server needs as long, however busy the machine is.
RECOVERY_TIMEOUT_S = 90.0


class Run:
    """A run of random faults on one system, with its clients."""

    def __init__(self, system: System, *, without: Sequence[str], seed: str) -> None:
        """Start the clients. `without` are the names of faults that must not happen."""
        self.system = system
        self.load = Load(system.address, seed)
        self._random = Random(f"{seed} faults")
        self._events: list[tuple[float, str]] = []
        self._happened: Counter[str] = Counter()
        allowed = [fault for fault in system.faults() if name_of(fault) not in without]
        process_faults = [fault for fault in allowed if fault in PROCESS_FAULTS]
        database_faults = [fault for fault in allowed if fault not in PROCESS_FAULTS]
        self._decks = [self._shuffled(faults) for faults in (process_faults, database_faults) if faults]

    def _shuffled(self, faults: Sequence[Fault]) -> Iterator[Fault]:
        """Yield the faults in random order, again and again."""
        while True:
            yield from self._random.sample(faults, len(faults))

    def disturb(self, seconds: float) -> None:
        """Let one or two faults happen at a time, for some seconds. After each time, every server must serve again."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            decks = self._random.sample(self._decks, self._random.randint(1, len(self._decks)))
            self._inflict(sorted(map(next, decks), key=ALL_FAULTS.index))
            time.sleep(self._random.choice((0.0, 0.3, 1.0)))

    def _inflict(self, faults: Sequence[Fault]) -> None:
        names = [name_of(fault) for fault in faults]
        with ExitStack() as stack:
            for fault, name in zip(faults, names, strict=True):
                self._record(f"{name} begins")
                stack.enter_context(fault(self.system, Random(self._random.random())))
            time.sleep(self._random.choice(FAULT_LENGTHS_S))
        self._record(f"{' and '.join(names)} ended")
        self._happened.update(names)
        for server in self.system.servers:
            self._wait_until_it_serves(server, " and ".join(names))

    def _record(self, event: str) -> None:
        self._events.append((time.monotonic(), event))

    def _wait_until_it_serves(self, server: ServerProcess, names: str) -> None:
        """Wait until a server assigns an order. The attempts are a history of their own."""
        history = self.load.histories.new(f"probe-{len(self.load.histories.all)}")
        [executor_id, *_] = history.executor_ids
        assign = assign_request(Order(f"order-{history.name}", executor_id, "zone"))
        deadline = time.monotonic() + RECOVERY_TIMEOUT_S
        while (response := call(server, history, assign)) is None or response.answer not in (CREATED, ALREADY_EXISTS):
            got = history.steps[-1].got
            if time.monotonic() > deadline:
                pytest.fail(f"{server.url} does not serve again after {names}: {got}\n{server.log()[-3000:]}", False)
            time.sleep(0.1)

    def read_all(self) -> dict[str, list[Row]]:
        """Start one server anew, acquire the orders of all executors, and return the stored rows of each history."""
        for server in self.system.servers:
            self.system.stop(server)
        database = self.system.database
        histories = {executor: history for history in self.load.histories.all for executor in history.executor_ids}
        with ServerProcess("--no-access-log", database=database) as server:
            for executor_id, history in histories.items():
                response = call(server, history, acquire_request(executor_id))
                assert response is not None, f"{history.steps[-1]}\n{server.log()[-3000:]}"
            self.system.stop(server)
        if database.startswith("sqlite:"):
            assert execute(database, "PRAGMA integrity_check") == [("ok",)]
        rows: dict[str, list[Row]] = {history.name: [] for history in self.load.histories.all}
        for values in execute(database, f"SELECT {', '.join(COLUMNS)} FROM assigned_order"):
            row = dict(zip(COLUMNS, map(as_text, values), strict=True))
            rows[histories[str(row["executor_id"])].name].append(row)
        return rows

    def summary(self) -> str:
        """Return how often each fault happened."""
        return ", ".join(f"{name} {self._happened[name]}" for name in map(name_of, self.system.faults()))

    def listing(self, history: History, rows: Sequence[Row]) -> str:
        """Return a history, one line per step, with the faults of its time and the rows of its orders at the end."""
        first = min(step.started for step in history.steps)
        last = max(step.ended for step in history.steps)
        lines = [(step.started, f"{step.ended - first:9.4f}  {shown(step)}") for step in history.steps]
        lines += [(time, f"{'':9}  *** {event}") for time, event in self._events if first <= time <= last]
        first_wrong = first_unexplained(history.steps)
        return "\n".join(
            [
                *([f"the first answer that nothing explains: {shown(first_wrong)}"] if first_wrong else []),
                "sent at      until",
                *(f"{time - first:9.4f} {line}" for time, line in sorted(lines)),
                "stored at the end:",
                *map(str, rows),
            ]
        )


def call(server: ServerProcess, history: History, request: Request) -> Response | None:
    """Send a request over a new connection, and add a step to a history; return the response unless it is a 500."""
    connection = Connection(Target(server.url, ANSWER_TIMEOUT_S), keep_alive=False)
    started = time.monotonic()
    try:
        history.add(Step(request, connection.send(request), "", started, time.monotonic()))
    except TRANSPORT_ERRORS as error:
        history.add(Step(request, None, explain(error), started, time.monotonic()))
    return history.steps[-1].response


def as_text(value: object) -> str | None:
    """Return a value of a row as an `order_profile` has it (D6)."""
    if isinstance(value, datetime):
        return rfc3339(value)
    return None if value is None else str(value)
