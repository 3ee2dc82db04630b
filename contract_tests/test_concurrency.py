"""Requests that meet: races of each kind, and random histories that must be linearizable (RACE)."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

import pytest

from contract_tests.suite import model, reliance
from contract_tests.suite.calls import Order, acquire_request, assign_request, cancel_request
from contract_tests.suite.contract import ACQUIRED, ALREADY_EXISTS, CANCELED, CREATED, NO_ORDERS, not_active
from contract_tests.suite.linearizability import is_linearizable
from contract_tests.suite.run import Run, ServerLost
from contract_tests.suite.scenario import Scenario, difference, repeated
from contract_tests.suite.transport import Connection, Request, Response

TOGETHER = 8
# Requests that meet arrive exactly together or a little apart, to fall into windows of different widths.
GAPS_S = (0.0, 0.0, 0.0, 0.0005, 0.001, 0.003)
MIN_ROUNDS = 12


def rounds(scenario: Scenario) -> Iterator[tuple[Random, float]]:
    """Begin one round after the other, as long as the budget allows; yield a random generator and a gap in seconds."""
    random = scenario.run.random(scenario.run.test)
    for _ in repeated(scenario.run.budget.race_s, MIN_ROUNDS):
        scenario.forget()
        yield random, random.choice(GAPS_S)


def answers(responses: list[Response]) -> list[tuple[int, str]]:
    """Return the answers in responses."""
    return [response.answer for response in responses]


@pytest.mark.clause("RACE-1")
@pytest.mark.parametrize("busy", [False, True], ids=["free", "busy"])
def test_one_of_simultaneous_assigns_wins(scenario: Scenario, busy: bool) -> None:
    """One assign of an order creates it for its own executor. The others change nothing for theirs."""
    for random, gap_s in rounds(scenario):
        one = scenario.new_order()
        rivals = [one, one, *(replace(scenario.new_order(), order_id=one.order_id) for _ in range(TOGETHER - 2))]
        random.shuffle(rivals)
        executor_ids = list(dict.fromkeys(order.executor_id for order in rivals))
        current = {executor_id: scenario.prepare(executor_id=executor_id) for executor_id in executor_ids if busy}
        found = answers(scenario.at_once(*map(assign_request, rivals), gap_s=gap_s))
        scenario.check(
            Counter(found) == {CREATED: 1, ALREADY_EXISTS: TOGETHER - 1},
            f"{CREATED} once, and {ALREADY_EXISTS} for the other {TOGETHER - 1}",
        )
        winner = rivals[found.index(CREATED)]
        for executor_id in executor_ids:
            if executor_id == winner.executor_id:
                scenario.acquire(winner)
            elif busy:
                scenario.acquire(current[executor_id])
            else:
                scenario.acquire_nothing(executor_id)


@pytest.mark.clause("RACE-2")
@pytest.mark.parametrize("busy", [False, True], ids=["free", "busy"])
def test_simultaneous_assigns_to_an_executor_all_succeed(scenario: Scenario, busy: bool) -> None:
    """Each of the orders is created. One of them is active, and the others cannot be cancelled."""
    for _, gap_s in rounds(scenario):
        first = scenario.prepare() if busy else scenario.new_order()
        orders = [scenario.new_order(first.executor_id) for _ in range(TOGETHER)]
        responses = scenario.at_once(*map(assign_request, orders), gap_s=gap_s)
        scenario.check(set(answers(responses)) == {CREATED}, f"{CREATED} for all {TOGETHER}")
        active_id = scenario.read(scenario.call(acquire_request(first.executor_id), ACQUIRED), "order_id")
        active = [order for order in orders if order.order_id == active_id]
        scenario.check(len(active) == 1, "one of the orders just assigned")
        scenario.acquire(active[0])
        for order in orders:
            if order is not active[0]:
                scenario.cancel_nothing(order.order_id)
        if busy:
            scenario.cancel_nothing(first.order_id)


@pytest.mark.clause("RACE-3")
@pytest.mark.parametrize("status", ["assigned", "acquired"])
def test_one_of_simultaneous_cancels_wins(scenario: Scenario, status: str) -> None:
    """One cancel says that it cancelled the order. Afterwards the executor is free."""
    for _, gap_s in rounds(scenario):
        order = scenario.prepare(status)
        gone = not_active(order.order_id)
        responses = scenario.at_once(*[cancel_request(order.order_id)] * TOGETHER, gap_s=gap_s)
        scenario.check(
            Counter(answers(responses)) == {CANCELED: 1, gone: TOGETHER - 1},
            f"{CANCELED} once, and {gone} for the other {TOGETHER - 1}",
        )
        scenario.acquire_nothing(order.executor_id)


@pytest.mark.clause("RACE-4")
@pytest.mark.parametrize("busy", [False, True], ids=["first", "second"])
def test_simultaneous_acquires_return_the_same_bytes(scenario: Scenario, busy: bool) -> None:
    """All acquires, simultaneous or later, return the order with the same acquire_time."""
    for random, gap_s in rounds(scenario):
        order = scenario.prepare()
        if busy:
            order = scenario.prepare(executor_id=order.executor_id)
        count = random.choice((TOGETHER, 4 * TOGETHER))
        responses = scenario.at_once(*[acquire_request(order.executor_id)] * count, gap_s=gap_s)
        for response in responses:
            scenario.check(response.answer == ACQUIRED, f"{ACQUIRED} for all {count}")
            scenario.check_profile(response, order)
            scenario.check_same(response, responses[0], "the same bytes in all answers")
        scenario.check_same(scenario.acquire(order), responses[0], "the bytes of the simultaneous acquires")


@pytest.mark.clause("RACE-5")
def test_a_cancel_that_meets_acquires(scenario: Scenario) -> None:
    """The cancel succeeds. A simultaneous acquire gets the order or nothing, a later one gets nothing."""
    for random, gap_s in rounds(scenario):
        order = scenario.prepare()
        requests = [acquire_request(order.executor_id)] * random.choice((1, 3, 7))
        # The cancel is mostly first: once the order is acquired, it can no longer meet the first acquire.
        place = random.choice((0, 0, len(requests) // 2, len(requests)))
        requests.insert(place, cancel_request(order.order_id))
        responses = scenario.at_once(*requests, gap_s=gap_s)
        scenario.check(responses[place].answer == CANCELED, f"{CANCELED} for the cancel")
        acquired = [response for response in responses if response.answer == ACQUIRED]
        for response in acquired:
            scenario.check_same(response, acquired[0], "the same bytes for each who acquired the order")
        scenario.acquire_nothing(order.executor_id)
        scenario.cancel_nothing(order.order_id)


@pytest.mark.clause("RACE-6")
@pytest.mark.parametrize("status", ["assigned", "acquired"])
def test_a_cancel_that_meets_an_assign(scenario: Scenario, status: str) -> None:
    """The old order is cancelled or completed, and the new one is created and active."""
    for random, gap_s in rounds(scenario):
        old = scenario.prepare(status)
        new = scenario.new_order(old.executor_id)
        requests = [assign_request(new), *[cancel_request(old.order_id)] * random.choice((1, 3))]
        random.shuffle(requests)
        found = answers(scenario.at_once(*requests, gap_s=gap_s))
        scenario.check(found.count(CREATED) == 1, f"{CREATED} for the assign")
        scenario.check(found.count(CANCELED) <= 1, f"{CANCELED} at most once")
        scenario.acquire(new)
        scenario.cancel_nothing(old.order_id)


@pytest.mark.clause("RACE-7")
def test_an_acquire_that_meets_an_assign(scenario: Scenario) -> None:
    """An acquire gets the old order or the new one, never nothing. Afterwards the new one is active."""
    for random, gap_s in rounds(scenario):
        old = scenario.prepare()
        new = scenario.new_order(old.executor_id)
        requests = [assign_request(new), *[acquire_request(old.executor_id)] * random.choice((1, 3, 6))]
        random.shuffle(requests)
        found = answers(scenario.at_once(*requests, gap_s=gap_s))
        scenario.check(NO_ORDERS not in found, "the old order or the new one")
        scenario.acquire(new)
        scenario.cancel_nothing(old.order_id)


class Histories:
    """Random histories of concurrent requests that name few orders and executors."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        scenario.relies = reliance.LIFECYCLE | {f"RACE-{number}" for number in range(1, 7)}
        self.random = scenario.run.random("histories")
        self.count = 0
        self.undecided = 0

    def rounds(self) -> Iterator[None]:
        """Begin one history after the other, as long as the budget allows. Then skip the test if one is undecided."""
        for _ in repeated(self.scenario.run.budget.histories_s / 2):
            self.scenario.forget()
            self.count += 1
            self.order_ids = [self.scenario.new_id("order") for _ in range(4)]
            self.executor_ids = [self.scenario.new_id("executor") for _ in range(2)]
            yield
        if self.undecided:
            pytest.skip(f"undecided: the search gave up on {self.undecided} of {self.count} histories")

    def requests(self, count: int) -> list[Request]:
        """Return random calls: two assigns and two acquires for each cancel, on average."""
        return [self._request() for _ in range(count)]

    def _request(self) -> Request:
        order_id, executor_id = self.random.choice(self.order_ids), self.random.choice(self.executor_ids)
        match self.random.choice(("assign", "assign", "acquire", "acquire", "cancel")):
            case "assign":
                return assign_request(Order(order_id, executor_id, "zone"))
            case "acquire":
                return acquire_request(executor_id)
            case _:
                return cancel_request(order_id)

    def check(self) -> None:
        """Check that each order has one profile, and that the history is linearizable."""
        seen: dict[object, Response] = {}
        for step in self.scenario.steps:
            if step.response is not None and "order_id" in step.response.profile:
                first = seen.setdefault(step.response.profile["order_id"], step.response)
                if step.response.body != first.body:
                    got = difference(first, step.response)
                    self.scenario.fail("the bytes of the first acquire", got, wrong=step)
        found = is_linearizable(self.scenario.steps, model.State())
        self.scenario.check(found is not False, "answers as if these requests had come one after the other")
        self.undecided += found is None


@pytest.mark.clause("RACE-7")
def test_bursts_are_linearizable(scenario: Scenario) -> None:
    """Bursts of requests on few orders and executors, each followed by an acquire of both executors."""
    histories = Histories(scenario)
    for _ in histories.rounds():
        for _ in range(4):
            burst = histories.requests(histories.random.choice((3, 6)))
            scenario.at_once(*burst, gap_s=histories.random.choice(GAPS_S))
            for executor_id in histories.executor_ids:
                scenario.call(acquire_request(executor_id))
        histories.check()


@pytest.mark.clause("RACE-7")
def test_independent_clients_are_linearizable(scenario: Scenario, run: Run) -> None:
    """Clients that send requests independently of each other, on few orders and executors."""
    histories = Histories(scenario)
    for _ in histories.rounds():
        clients = [Scenario(run, Connection(run.target, keep_alive=index % 2 == 0)) for index in range(4)]
        for client in clients:
            client.relies = scenario.relies
        problems: list[BaseException] = []
        threads = [
            threading.Thread(target=call_all, args=(client, histories.requests(8), problems)) for client in clients
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for problem in problems:
            raise problem
        steps = sorted((step for client in clients for step in client.steps), key=lambda step: step.started)
        scenario.steps = [replace(step, group=1) for step in steps]
        histories.check()


def call_all(client: Scenario, requests: Sequence[Request], problems: list[BaseException]) -> None:
    """Make calls, one after the other. Add to `problems` what ends them early."""
    try:
        for request in requests:
            client.call(request)
    except (Exception, ServerLost, pytest.skip.Exception) as problem:
        problems.append(problem)
    finally:
        client.close()
