"""The lifecycle: what becomes of orders and executors, in scenarios and in random histories (LIFE)."""

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from contract_tests import model
from contract_tests.rules import ACQUIRED, CREATED
from contract_tests.run import Run, Violation
from contract_tests.service import (
    Order,
    Service,
    acquire_request,
    assign_request,
    cancel_request,
    repeated,
)
from contract_tests.transport import Connection, Request


@pytest.fixture(params=["unseen", "acquired"])
def acquired(request: pytest.FixtureRequest) -> bool:
    """Once without, once with orders being acquired before the next thing happens to them."""
    return bool(request.param == "acquired")


def assign(service: Service, order: Order, acquired: bool) -> None:
    """Assign an order, and acquire it if so wanted."""
    service.assign(order)
    if acquired:
        service.acquire(order)


@pytest.mark.clause("LIFE-1")
def test_a_new_order_completes_the_active_one(service: Service, acquired: bool) -> None:
    """Each new order of an executor takes the place of the one before, which is then not active."""
    orders = [service.new_order()]
    orders += [service.new_order(orders[0].executor_id) for _ in range(4)]
    assign(service, orders[0], acquired)
    with service.clause("LIFE-1"):
        for old, new in itertools.pairwise(orders):
            assign(service, new, acquired)
            service.cancel_nothing(old.order_id)
            service.acquire(new)


@pytest.mark.clause("LIFE-1")
def test_orders_assigned_in_a_row_leave_the_last_one(service: Service) -> None:
    """Of many orders that nobody acquired in between, the last one is active, and only that; all stay known."""
    orders = [service.new_order()]
    orders += [service.new_order(orders[0].executor_id) for _ in range(24)]
    with service.clause("LIFE-1"):
        for order in orders:
            service.assign(order)
        service.acquire(orders[-1])
        for order in orders[:-1]:
            service.cancel_nothing(order.order_id)
            service.assign_known(order)
        service.acquire(orders[-1])
        service.cancel(orders[-1])


@pytest.mark.clause("LIFE-2")
def test_a_cancelled_order_is_not_handed_out(service: Service, acquired: bool) -> None:
    """After each cancel the executor has nothing, and can be assigned the next order."""
    order = service.new_order()
    with service.clause("LIFE-2"):
        for _ in range(3):
            assign(service, order, acquired)
            service.cancel(order)
            service.acquire_nothing(order.executor_id)
            service.acquire_nothing(order.executor_id)
            order = service.new_order(order.executor_id)
        service.assign(order)
        service.acquire(order)


@pytest.mark.clause("LIFE-2")
def test_a_cancelled_order_s_executor_is_free_at_once(service: Service, acquired: bool) -> None:
    """Without an acquire in between, the next order of the executor is created, and the active one."""
    order = service.new_order()
    with service.clause("LIFE-2"):
        for _ in range(3):
            assign(service, order, acquired)
            service.cancel(order)
            order = service.new_order(order.executor_id)
        service.assign(order)
        service.acquire(order)


@pytest.mark.clause("LIFE-3")
def test_completed_orders_do_not_come_back(service: Service, acquired: bool) -> None:
    """When the newest of several orders is cancelled, none of those before it becomes active."""
    orders = [service.new_order()]
    orders += [service.new_order(orders[0].executor_id) for _ in range(3)]
    for order in orders:
        assign(service, order, acquired)
    service.cancel(orders[-1])
    with service.clause("LIFE-3"):
        service.acquire_nothing(orders[0].executor_id)
        for order in orders:
            service.cancel_nothing(order.order_id)
        service.acquire_nothing(orders[0].executor_id)
        for order in orders:
            service.assign_known(order)
            service.acquire_nothing(order.executor_id)


@pytest.mark.clause("LIFE-3")
def test_cancelled_orders_do_not_come_back(service: Service, acquired: bool) -> None:
    """When an order that followed a cancelled one ends, the cancelled one does not become active."""
    first = service.new_order()
    second, third = (service.new_order(first.executor_id) for _ in range(2))
    assign(service, first, acquired)
    service.cancel(first)
    assign(service, second, acquired)
    assign(service, third, acquired)
    service.cancel(third)
    with service.clause("LIFE-3"):
        service.acquire_nothing(first.executor_id)
        for order in (first, second, third):
            service.cancel_nothing(order.order_id)
            service.assign_known(order)
            service.acquire_nothing(first.executor_id)


@pytest.mark.clause("LIFE-3")
@pytest.mark.parametrize("end", ["cancelled", "completed"])
def test_cancelling_an_ended_order_disturbs_nobody(service: Service, end: str, acquired: bool) -> None:
    """The executor's newer order stays active when the old one is cancelled, again or too late."""
    old = service.new_order()
    new = service.new_order(old.executor_id)
    assign(service, old, acquired)
    if end == "cancelled":
        service.cancel(old)
    assign(service, new, acquired)
    with service.clause("LIFE-3"):
        service.cancel_nothing(old.order_id)
        service.acquire(new)
        service.cancel(new)


@pytest.mark.clause("LIFE-4")
def test_executors_do_not_touch_each_other(service: Service, acquired: bool) -> None:
    """While one executor's order is acquired, replaced and cancelled, another's stays as it is."""
    own, other = service.new_order(), service.new_order()
    other = replace(other, zone_id=own.zone_id)
    assign(service, other, acquired=True)
    first = service.acquire(other)
    with service.clause("LIFE-4"):
        for _ in range(2):
            assign(service, own, acquired)
            service.check(service.acquire(other).body == first.body, "the other executor's order, unchanged")
            own = service.new_order(own.executor_id)
        assign(service, own, acquired)
        service.cancel(own)
        service.check(service.acquire(other).body == first.body, "the other executor's order, unchanged")
        service.acquire_nothing(own.executor_id)
        service.cancel(other)


@pytest.mark.clause("LIFE-4")
def test_orders_executors_and_zones_are_apart(service: Service) -> None:
    """The id of an order names no executor or zone, nor the other way round, even if the texts are the same."""
    order = service.new_order()
    order = Order(f"{order.order_id}-end", f"{order.executor_id}-end", f"{order.zone_id}-end")
    crossed = Order(order.executor_id, order.zone_id, order.order_id)
    service.assign(order)
    with service.clause("LIFE-4"):
        service.cancel_nothing(order.executor_id)
        service.cancel_nothing(order.zone_id)
        service.cancel_nothing(order.order_id[:-1])
        service.acquire_nothing(order.executor_id[:-1])
        service.acquire_nothing(order.order_id)
        service.acquire_nothing(order.zone_id)
        service.assign(crossed)
        service.acquire(order)
        service.acquire(crossed)
        service.cancel(crossed)
        service.acquire(order)
        service.acquire_nothing(crossed.executor_id)


REFUSALS = {
    "missing": lambda request, name: replace(
        request, query="&".join(part for part in request.query.split("&") if not part.startswith(name))
    ),
    "empty": lambda request, name: replace(
        request, query="&".join(f"{name}=" if part.startswith(name) else part for part in request.query.split("&"))
    ),
    "control-character": lambda request, name: replace(
        request, query="&".join(part + "%00" if part.startswith(name) else part for part in request.query.split("&"))
    ),
    "too-long": lambda request, name: replace(
        request,
        query="&".join(part + "x" * 255 if part.startswith(name) else part for part in request.query.split("&")),
    ),
    "twice": lambda request, name: replace(request, query=f"{request.query}&{name}=another"),
    "twice-the-other-way": lambda request, name: replace(request, query=f"{name}=another&{request.query}"),
}


@pytest.mark.clause("LIFE-5")
@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("name", ["order_id", "executor_id", "zone_id"])
def test_a_refused_assign_registers_nothing(service: Service, name: str, refusal: str) -> None:
    """An assign with a bad parameter leaves the order unknown and the executor as they were."""
    current = service.new_order()
    order = service.new_order(current.executor_id)
    service.assign(current)
    with service.clause("LIFE-5"):
        answer = service.send(REFUSALS[refusal](assign_request(order), name))
        service.check(answer.status == 400, "400")
        service.acquire(current)
        service.assign(order)
        service.acquire(order)


@pytest.mark.clause("LIFE-5")
@pytest.mark.parametrize("refusal", ["control-character", "too-long", "twice", "twice-the-other-way"])
def test_a_refused_cancel_cancels_nothing(service: Service, refusal: str) -> None:
    """A cancel with a bad order_id leaves the order that it almost names active."""
    order = service.new_order()
    service.assign(order)
    with service.clause("LIFE-5"):
        answer = service.send(REFUSALS[refusal](cancel_request(order.order_id), "order_id"))
        service.check(answer.status == 400, "400")
        service.acquire(order)
        service.cancel(order)


@pytest.mark.clause("LIFE-7")
@pytest.mark.first
def test_some_orders_are_left_at_the_start(service: Service) -> None:
    """At the start, an acquired, a cancelled and a completed order are left alone until the end of the run."""
    acquired, cancelled, completed = (service.new_order() for _ in range(3))
    newer = service.new_order(completed.executor_id)
    service.assign(acquired)
    first = service.acquire(acquired)
    service.assign(cancelled)
    service.cancel(cancelled)
    service.assign(completed)
    service.assign(newer)
    service.run.keepsakes += [acquired, cancelled, completed, newer, first]


@pytest.mark.clause("LIFE-7")
@pytest.mark.last
def test_they_are_the_same_at_the_end(service: Service) -> None:
    """At the end of the run, thousands of requests later, what was left at the start is as it was."""
    if not service.run.keepsakes:
        pytest.skip("nothing was left at the start")
    acquired, cancelled, completed, newer, first = service.run.keepsakes
    with service.clause("LIFE-7"):
        for order in (acquired, cancelled, completed, newer):
            service.assign_known(order)
        service.check(service.acquire(acquired).body == first.body, f"the bytes of {service.run.elapsed_s:.0f} s ago")
        service.acquire(newer)
        service.acquire_nothing(cancelled.executor_id)
        service.cancel_nothing(completed.order_id)
        service.cancel(acquired)


# So long the first round of random histories may take, however slow the server is.
FIRST_ROUND_S = 15

# Small pools, so that histories meet known orders and busy executors all the time.
ORDERS = st.sampled_from(["order-1", "order-2", "order-3", "order-4", "order-5"])
EXECUTORS = st.sampled_from(["executor-1", "executor-2"])
ZONES = st.sampled_from(["zone-1", "zone-2"])


class Lifecycle(RuleBasedStateMachine):
    """The service beside the model: random calls, each answered as the model says."""

    run: Run
    connections: tuple[Connection, ...]
    end: float

    def __init__(self) -> None:
        super().__init__()
        self.service = Service(self.run, *self.connections)
        self.state = model.State()
        self.token = self.run.new_id("history")
        self.first: dict[Order, bytes] = {}

    @contextmanager
    def clause(self) -> Iterator[None]:
        """Check the clause; when it fails, look for a shorter history for as long as the budget allows."""
        try:
            with self.service.clause("LIFE-6"):
                yield
        except Violation:
            type(self).end = min(self.end, time.monotonic() + self.run.budget.lifecycle_s)
            raise

    def call(self, request: Request, due: model.Due) -> None:
        """Make a call, and hold its answer against what is due."""
        # When the time is up, nothing more is tried, and so the search for a shorter history finds none.
        if time.monotonic() > self.end:
            return
        with self.clause():
            answer = self.service.call(request, due.message)
            if due.message == ACQUIRED and due.order is not None:
                self.service.check_is(answer, due.order)
                first = self.first.setdefault(due.order, answer.body)
                self.service.check(answer.body == first, f"the bytes of the first acquire: {first.decode()}")
        self.state = due.state

    def order(self, order: str, executor: str, zone: str) -> Order:
        """Return an order of this history."""
        return Order(f"{order}-{self.token}", f"{executor}-{self.token}", zone)

    @rule(order=ORDERS, executor=EXECUTORS, zone=ZONES, look=st.booleans())
    def assign(self, order: str, executor: str, zone: str, look: bool) -> None:
        """Assign known and unknown orders to free and busy executors."""
        named = self.order(order, executor, zone)
        due = model.assign(self.state, named)
        self.call(assign_request(named), due)
        if look and due.message != CREATED:
            # The refused assign may have done something all the same.
            self.acquire(executor)

    @rule(executor=EXECUTORS)
    def assign_another(self, executor: str) -> None:
        """Assign an order that is new for certain."""
        self.assign(f"order-{len(self.state.orders)}-more", executor, "zone-1", look=False)

    @rule(executor=EXECUTORS)
    def acquire(self, executor: str) -> None:
        """Acquire, with and without an active order."""
        executor_id = self.order("", executor, "").executor_id
        self.call(acquire_request(executor_id), model.acquire(self.state, executor_id))

    @rule(order=ORDERS)
    def cancel(self, order: str) -> None:
        """Cancel active, ended and unknown orders."""
        order_id = self.order(order, "", "").order_id
        self.call(cancel_request(order_id), model.cancel(self.state, order_id))

    @rule(executor=EXECUTORS)
    def cancel_and_look(self, executor: str) -> None:
        """Cancel what is active, and see that it is gone."""
        active = model.acquire(self.state, self.order("", executor, "").executor_id).order
        if active is not None:
            self.call(cancel_request(active.order_id), model.cancel(self.state, active.order_id))
            self.acquire(executor)

    @rule(order=ORDERS, executor=EXECUTORS, bad=st.sampled_from(["missing", "control-character", "twice"]))
    def assign_badly(self, order: str, executor: str, bad: str) -> None:
        """Assign with a bad parameter, which changes nothing."""
        request = REFUSALS[bad](assign_request(self.order(order, executor, "zone-1")), "zone_id")
        if time.monotonic() < self.end:
            with self.clause():
                self.service.call(request)


@pytest.fixture
def connections(run: Run) -> Iterator[tuple[Connection, ...]]:
    """Connections to take in turn: two that are kept, and a new one for each request."""
    connections = Connection(run.target), Connection(run.target), Connection(run.target, kept=False)
    yield connections
    for connection in connections:
        connection.close()


@pytest.mark.clause("LIFE-6")
def test_random_histories_agree_with_the_model(run: Run, connections: tuple[Connection, ...]) -> None:
    """In random histories over few orders and executors, every answer is the model's, one by one."""
    until = time.monotonic() + run.budget.lifecycle_s
    for number in repeated(run.budget.lifecycle_s, least=1):

        @seed(run.seed + number)
        class OfThisServer(Lifecycle):
            pass

        OfThisServer.run = run
        OfThisServer.connections = connections
        # The first histories are not cut short, however slow the server is.
        OfThisServer.end = until if number else time.monotonic() + FIRST_ROUND_S
        run_state_machine_as_test(
            OfThisServer,
            settings=settings(
                max_examples=20,
                stateful_step_count=20,
                deadline=None,
                database=None,
                print_blob=False,
                derandomize=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
