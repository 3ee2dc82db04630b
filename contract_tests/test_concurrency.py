"""Requests that meet: races of each kind, and random histories that some order must explain (RACE)."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from contract_tests import model
from contract_tests.linearizability import Call, Outcome, call_of, search
from contract_tests.rules import ACQUIRED, ALREADY_EXISTS, CANCELED, CREATED, NO_ORDERS, not_active
from contract_tests.run import Run, ServerLost
from contract_tests.service import (
    Order,
    Service,
    acquire_request,
    assign_request,
    cancel_request,
    repeated,
)
from contract_tests.transport import Answer, Connection, Request

TOGETHER = 8
# Requests that meet do so now exactly, now a little apart, to fall into windows of different widths.
GAPS_S = (0.0, 0.0, 0.0, 0.0005, 0.001, 0.003)
MIN_ROUNDS = 12


def rounds(service: Service, clause: str, play: Callable[[Random, float], None]) -> None:
    """Play a race again and again, as long as the budget allows."""
    random = service.run.random(clause)
    for _ in repeated(service.run.budget.race_s, MIN_ROUNDS):
        service.begin()
        play(random, random.choice(GAPS_S))


def messages(answers: list[Answer]) -> list[str]:
    """Return the messages of answers."""
    return [str(answer.message) for answer in answers]


@pytest.mark.clause("RACE-1")
@pytest.mark.parametrize("busy", [False, True], ids=["free", "busy"])
def test_one_of_simultaneous_assigns_wins(service: Service, busy: bool) -> None:
    """One assign of an order creates it, for its own executor; the others change nothing for theirs."""

    def play(random: Random, gap_s: float) -> None:
        one = service.new_order()
        rivals = [one, one, *(replace(service.new_order(), order_id=one.order_id) for _ in range(TOGETHER - 2))]
        random.shuffle(rivals)
        current = {order.executor_id: service.new_order(order.executor_id) for order in rivals} if busy else {}
        for order in current.values():
            service.assign(order)
        with service.clause("RACE-1"):
            answers = service.at_once(*map(assign_request, rivals), gap_s=gap_s)
            counts = Counter(messages(answers))
            service.check(
                counts == {CREATED: 1, ALREADY_EXISTS: TOGETHER - 1},
                f"{CREATED!r} once, and {ALREADY_EXISTS!r} for the other {TOGETHER - 1}",
            )
            winner = rivals[messages(answers).index(CREATED)]
            for executor_id in {order.executor_id for order in rivals}:
                if executor_id == winner.executor_id:
                    service.acquire(winner)
                elif busy:
                    service.acquire(current[executor_id])
                else:
                    service.acquire_nothing(executor_id)

    rounds(service, "RACE-1", play)


@pytest.mark.clause("RACE-2")
@pytest.mark.parametrize("busy", [False, True], ids=["free", "busy"])
def test_simultaneous_assigns_to_an_executor_all_succeed(service: Service, busy: bool) -> None:
    """Each of the orders is created; one of them is active, and the others cannot be cancelled."""

    def play(random: Random, gap_s: float) -> None:
        first = service.new_order()
        if busy:
            service.assign(first)
        orders = [service.new_order(first.executor_id) for _ in range(TOGETHER)]
        with service.clause("RACE-2"):
            answers = service.at_once(*map(assign_request, orders), gap_s=gap_s)
            service.check(set(messages(answers)) == {CREATED}, f"{CREATED!r} for all {TOGETHER}")
            active_id = service.call(acquire_request(first.executor_id), ACQUIRED).profile.get("order_id")
            active = [order for order in orders if order.order_id == active_id]
            service.check(len(active) == 1, "one of the orders just assigned")
            service.acquire(active[0])
            for order in orders:
                if order is not active[0]:
                    service.cancel_nothing(order.order_id)
            if busy:
                service.cancel_nothing(first.order_id)
            service.cancel(active[0])
            service.acquire_nothing(first.executor_id)

    rounds(service, "RACE-2", play)


@pytest.mark.clause("RACE-3")
@pytest.mark.parametrize("acquired", [False, True], ids=["unseen", "acquired"])
def test_one_of_simultaneous_cancels_wins(service: Service, acquired: bool) -> None:
    """One cancel says that it cancelled the order; the executor is free afterwards."""

    def play(random: Random, gap_s: float) -> None:
        order = service.new_order()
        service.assign(order)
        if acquired:
            service.acquire(order)
        with service.clause("RACE-3"):
            answers = service.at_once(*[cancel_request(order.order_id)] * TOGETHER, gap_s=gap_s)
            service.check(
                Counter(messages(answers)) == {CANCELED: 1, not_active(order.order_id): TOGETHER - 1},
                f"{CANCELED!r} once, and '… has already been canceled' for the other {TOGETHER - 1}",
            )
            service.acquire_nothing(order.executor_id)
            following = service.new_order(order.executor_id)
            service.assign(following)
            service.acquire(following)

    rounds(service, "RACE-3", play)


@pytest.mark.clause("RACE-4")
@pytest.mark.parametrize("busy", [False, True], ids=["first", "second"])
def test_simultaneous_acquires_return_the_same_bytes(service: Service, busy: bool) -> None:
    """Whoever comes first, all get the order with the one acquire_time, and so do those who come later."""

    def play(random: Random, gap_s: float) -> None:
        order = service.new_order()
        service.assign(order)
        if busy:
            order = service.new_order(order.executor_id)
            service.assign(order)
        with service.clause("RACE-4"):
            count = random.choice((TOGETHER, 4 * TOGETHER))
            answers = service.at_once(*[acquire_request(order.executor_id)] * count, gap_s=gap_s)
            for answer in answers:
                service.check(answer.message == ACQUIRED, f"{ACQUIRED!r} for all {count}")
                service.check_is(answer, order)
            service.check(len({answer.body for answer in answers}) == 1, "the same bytes in all answers")
            service.check(service.acquire(order).body == answers[0].body, "the bytes of the simultaneous acquires")

    rounds(service, "RACE-4", play)


@pytest.mark.clause("RACE-5")
def test_a_cancel_that_meets_acquires(service: Service) -> None:
    """The cancel succeeds; an acquire sees the order or nothing; and nobody sees it afterwards."""

    def play(random: Random, gap_s: float) -> None:
        order = service.new_order()
        service.assign(order)
        requests = [acquire_request(order.executor_id)] * random.choice((1, 3, 7))
        # Mostly first: once the order is acquired, further acquires are nothing to meet.
        requests.insert(random.choice((0, 0, len(requests) // 2, len(requests))), cancel_request(order.order_id))
        with service.clause("RACE-5"):
            answers = service.at_once(*requests, gap_s=gap_s)
            bodies = {answer.body for answer in answers if answer.message == ACQUIRED}
            cancelled = next(
                answer for answer, request in zip(answers, requests, strict=True) if request.method == "POST"
            )
            service.check(cancelled.message == CANCELED, f"{CANCELED!r} for the cancel")
            service.check(len(bodies) <= 1, "the same bytes for each who acquired the order")
            service.acquire_nothing(order.executor_id)
            service.cancel_nothing(order.order_id)
            following = service.new_order(order.executor_id)
            service.assign(following)
            service.acquire(following)

    rounds(service, "RACE-5", play)


@pytest.mark.clause("RACE-6")
@pytest.mark.parametrize("acquired", [False, True], ids=["unseen", "acquired"])
def test_a_cancel_that_meets_a_reassign(service: Service, acquired: bool) -> None:
    """The old order is cancelled or completed, the new one is created and active."""

    def play(random: Random, gap_s: float) -> None:
        old = service.new_order()
        new = service.new_order(old.executor_id)
        service.assign(old)
        if acquired:
            service.acquire(old)
        requests = [assign_request(new), *[cancel_request(old.order_id)] * random.choice((1, 3))]
        random.shuffle(requests)
        with service.clause("RACE-6"):
            found = messages(service.at_once(*requests, gap_s=gap_s))
            service.check(found.count(CREATED) == 1, f"{CREATED!r} for the assign")
            service.check(found.count(CANCELED) <= 1, f"{CANCELED!r} at most once")
            service.acquire(new)
            service.cancel_nothing(old.order_id)
            service.acquire(new)
            service.cancel(new)

    rounds(service, "RACE-6", play)


@pytest.mark.clause("RACE-7")
def test_an_acquire_that_meets_a_reassign(service: Service) -> None:
    """An acquire gets the old order or the new one, never nothing; and afterwards the new one is active."""

    def play(random: Random, gap_s: float) -> None:
        old = service.new_order()
        new = service.new_order(old.executor_id)
        service.assign(old)
        requests = [assign_request(new), *[acquire_request(old.executor_id)] * random.choice((1, 3, 6))]
        random.shuffle(requests)
        with service.clause("RACE-7"):
            for answer in service.at_once(*requests, gap_s=gap_s):
                service.check(answer.message != NO_ORDERS, "the old order or the new one")
            service.acquire(new)
            service.cancel_nothing(old.order_id)
            service.cancel(new)

    rounds(service, "RACE-7", play)


class Histories:
    """Random histories of concurrent requests, and whether they can be explained."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.random = service.run.random("histories")
        self.count = 0
        self.undecided = 0

    def begin(self) -> None:
        """Begin a history, with new identifiers."""
        self.service.begin()
        self.count += 1
        new_id = self.service.run.new_id
        self.order_ids = [new_id("order") for _ in range(4)]
        self.executor_ids = [new_id("executor") for _ in range(2)]

    def request(self) -> tuple[Request, Order]:
        """Return a random call."""
        random = self.random
        order = Order(random.choice(self.order_ids), random.choice(self.executor_ids), "zone")
        make = random.choice((assign_request, assign_request, _acquire, _acquire, _cancel))
        return make(order), order

    def judge(self, calls: list[Call]) -> None:
        """Look for an order of the calls that explains them; none is a failure, too long a search is no verdict."""
        bodies: dict[object, bytes] = {}
        for exchange in self.service.exchanges:
            if exchange.answer is not None and exchange.answer.message == ACQUIRED:
                order_id = exchange.answer.profile.get("order_id")
                first = bodies.setdefault(order_id, exchange.answer.body)
                if exchange.answer.body != first:
                    expected = f"the bytes of the first acquire: {first.decode(errors='backslashreplace')}"
                    self.service.fail(expected, wrong=exchange)
        outcome = search(calls, model.State())
        self.service.check(
            outcome is not Outcome.NOT_LINEARIZABLE, "answers that one order of these requests, one by one, explains"
        )
        self.undecided += outcome is Outcome.UNDECIDED


def _acquire(order: Order) -> Request:
    return acquire_request(order.executor_id)


def _cancel(order: Order) -> Request:
    return cancel_request(order.order_id)


@pytest.mark.clause("RACE-7")
def test_bursts_can_be_explained(service: Service) -> None:
    """Bursts of requests on few orders and executors, with a look at both executors after each."""
    histories = Histories(service)
    for _ in repeated(service.run.budget.histories_s / 2):
        histories.begin()
        with service.clause("RACE-7"):
            named: list[Order] = []
            for _ in range(4):
                burst = [histories.request() for _ in range(histories.random.choice((3, 6)))]
                service.at_once(*[request for request, _ in burst], gap_s=histories.random.choice(GAPS_S))
                named += [order for _, order in burst]
                for executor_id in histories.executor_ids:
                    order = Order("", executor_id, "")
                    service.call(_acquire(order))
                    named.append(order)
            histories.judge([call_of(*pair) for pair in zip(service.exchanges, named, strict=True)])
    check_decided(service, histories)


@pytest.mark.clause("RACE-7")
def test_what_threads_do_can_be_explained(service: Service, run: Run) -> None:
    """Clients that go on independently of each other, on few orders and executors."""
    histories = Histories(service)
    for _ in repeated(run.budget.histories_s / 2):
        histories.begin()
        plans = [[histories.request() for _ in range(8)] for _ in range(4)]
        clients = [Service(run, Connection(run.target, kept=index % 2 == 0)) for index in range(len(plans))]
        problems: list[BaseException] = []
        threads = [
            threading.Thread(target=carry_out, args=(client, plan, problems))
            for client, plan in zip(clients, plans, strict=True)
        ]
        with service.clause("RACE-7"):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for problem in problems:
                raise problem
            done = [
                (exchange, order)
                for client, plan in zip(clients, plans, strict=True)
                for exchange, (_, order) in zip(client.exchanges, plan, strict=True)
            ]
            done.sort(key=lambda pair: pair[0].started)
            service.exchanges = [replace(exchange, group=1) for exchange, _ in done]
            histories.judge([call_of(*pair) for pair in done])
    check_decided(service, histories)


def carry_out(client: Service, plan: list[tuple[Request, Order]], problems: list[BaseException]) -> None:
    """Make the calls of a plan, one after the other; note what went wrong."""
    try:
        for request, _ in plan:
            client.call(request)
    except (Exception, ServerLost, pytest.skip.Exception) as problem:
        problems.append(problem)
    finally:
        client.close()


def check_decided(service: Service, histories: Histories) -> None:
    """Say so if the search gave up on a history: nothing is known of it."""
    if histories.undecided:
        with service.clause("RACE-7"):
            pytest.skip(f"undecided: the search gave up on {histories.undecided} of {histories.count} histories")
