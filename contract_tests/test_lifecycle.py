"""The lifecycle: what becomes of orders and executors, in scenarios and in random histories (LIFE)."""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from contract_tests.suite import model, reliance
from contract_tests.suite.calls import Order, acquire_request, assign_request, cancel_request
from contract_tests.suite.contract import ASSIGN, MAX_LENGTH, STATUSES
from contract_tests.suite.run import Run, Violation
from contract_tests.suite.scenario import Scenario, repeated
from contract_tests.suite.settings import SETTINGS
from contract_tests.suite.transport import Connection, Request, Response, Step


@pytest.fixture(params=["unseen", "acquired"])
def acquired(request: pytest.FixtureRequest) -> bool:
    """Whether the executor acquires each order before the next thing happens to it."""
    return bool(request.param == "acquired")


def assign(scenario: Scenario, order: Order, acquired: bool) -> None:
    """Assign an order, and acquire it if `acquired`."""
    scenario.assign(order)
    if acquired:
        scenario.acquire(order)


@pytest.mark.clause("LIFE-1")
def test_a_new_order_completes_the_active_one(scenario: Scenario, acquired: bool) -> None:
    """A new order of an executor replaces the one before, which is then not active."""
    old = scenario.prepare("acquired" if acquired else "assigned")
    assign(scenario, scenario.new_order(old.executor_id), acquired)
    scenario.cancel_nothing(old.order_id)


@pytest.mark.clause("LIFE-1")
def test_the_new_order_is_handed_out(scenario: Scenario) -> None:
    """The executor acquires the new order, and not the one that it replaced."""
    order = scenario.prepare(executor_id=scenario.prepare().executor_id)
    scenario.acquire(order)


@pytest.mark.clause("LIFE-1")
def test_orders_assigned_in_a_row_leave_the_last_one(scenario: Scenario) -> None:
    """Of many orders that nobody acquired in between, only the last one is active."""
    orders = [scenario.new_order()]
    orders += [scenario.new_order(orders[0].executor_id) for _ in range(24)]
    for order in orders:
        scenario.assign(order)
    scenario.acquire(orders[-1])
    for order in orders[:-1]:
        scenario.cancel_nothing(order.order_id)


@pytest.mark.clause("LIFE-2")
def test_a_cancelled_order_is_not_handed_out(scenario: Scenario, acquired: bool) -> None:
    """After each cancel the executor has nothing, and can be assigned the next order."""
    order = scenario.prepare("acquired" if acquired else "assigned")
    for _ in range(3):
        with scenario.preparation():
            scenario.cancel(order)
        scenario.acquire_nothing(order.executor_id)
        scenario.acquire_nothing(order.executor_id)
        order = scenario.new_order(order.executor_id)
        assign(scenario, order, acquired)


@pytest.mark.clause("LIFE-2")
def test_a_cancelled_order_s_executor_is_free_at_once(scenario: Scenario, acquired: bool) -> None:
    """Without an acquire after the cancel, the executor's next order is created and active."""
    order = scenario.prepare("acquired" if acquired else "assigned")
    for _ in range(3):
        with scenario.preparation():
            scenario.cancel(order)
        order = scenario.new_order(order.executor_id)
        assign(scenario, order, acquired)
    scenario.acquire(order)


@pytest.mark.clause("LIFE-3")
def test_completed_orders_do_not_come_back(scenario: Scenario, acquired: bool) -> None:
    """When the newest of several orders is cancelled, none of those before it becomes active."""
    orders = [scenario.new_order()]
    orders += [scenario.new_order(orders[0].executor_id) for _ in range(3)]
    with scenario.preparation():
        for order in orders:
            assign(scenario, order, acquired)
        for order in orders[:-1]:
            scenario.cancel_nothing(order.order_id)
        scenario.cancel(orders[-1])
    scenario.acquire_nothing(orders[0].executor_id)
    for order in orders:
        scenario.cancel_nothing(order.order_id)
    scenario.acquire_nothing(orders[0].executor_id)
    for order in orders:
        scenario.assign_known(order)
        scenario.acquire_nothing(order.executor_id)


@pytest.mark.clause("LIFE-3")
def test_cancelled_orders_do_not_come_back(scenario: Scenario, acquired: bool) -> None:
    """When the orders after a cancelled one end, the cancelled one does not become active."""
    first = scenario.new_order()
    second, third = (scenario.new_order(first.executor_id) for _ in range(2))
    with scenario.preparation():
        assign(scenario, first, acquired)
        scenario.cancel(first)
        assign(scenario, second, acquired)
        assign(scenario, third, acquired)
        scenario.cancel(third)
    scenario.acquire_nothing(first.executor_id)
    for order in (first, second, third):
        scenario.cancel_nothing(order.order_id)
        scenario.assign_known(order)
        scenario.acquire_nothing(first.executor_id)


@pytest.mark.clause("LIFE-3")
def test_an_old_assign_again_leaves_the_newer_order(scenario: Scenario) -> None:
    """Repeating the assign before the last one does not bring the older order back."""
    old = scenario.prepare()
    new = scenario.prepare(executor_id=old.executor_id)
    with scenario.preparation():
        first = scenario.acquire(new)
    scenario.assign_known(old)
    scenario.check_same(scenario.acquire(new), first, "the bytes of the acquire before the repeat")


@pytest.mark.clause("LIFE-4")
def test_executors_do_not_touch_each_other(scenario: Scenario, acquired: bool) -> None:
    """While one executor's order is acquired, replaced and cancelled, another's stays as it is."""
    own = scenario.new_order()
    other = replace(scenario.new_order(), zone_id=own.zone_id)
    expected = "the other executor's order, unchanged"
    with scenario.preparation():
        scenario.assign(other)
        first = scenario.acquire(other)
    for _ in range(2):
        assign(scenario, own, acquired)
        scenario.check_same(scenario.acquire(other), first, expected)
        own = replace(scenario.new_order(own.executor_id), zone_id=other.zone_id)
    assign(scenario, own, acquired)
    scenario.cancel(own)
    scenario.check_same(scenario.acquire(other), first, expected)


@pytest.mark.clause("LIFE-4")
def test_orders_executors_and_zones_are_apart(scenario: Scenario) -> None:
    """The id of an order names no executor and no zone, nor the other way round, even if the texts are the same."""
    order = scenario.new_order()
    order = Order(f"{order.order_id}-end", f"{order.executor_id}-end", f"{order.zone_id}-end")
    crossed = Order(order.executor_id, order.zone_id, order.order_id)
    with scenario.preparation():
        scenario.assign(order)
    scenario.cancel_nothing(order.executor_id)
    scenario.cancel_nothing(order.zone_id)
    scenario.cancel_nothing(order.order_id[:-1])
    scenario.acquire_nothing(order.executor_id[:-1])
    scenario.acquire_nothing(order.order_id)
    scenario.acquire_nothing(order.zone_id)
    scenario.assign(crossed)
    scenario.acquire(order)
    scenario.acquire(crossed)
    scenario.cancel(crossed)
    scenario.acquire(order)
    scenario.acquire_nothing(crossed.executor_id)


@pytest.mark.clause("LIFE-4")
@pytest.mark.parametrize("end", ["cancelled", "completed"])
def test_cancelling_an_ended_order_disturbs_nobody(scenario: Scenario, end: str, acquired: bool) -> None:
    """Cancelling an order that has ended leaves the executor's newer order active."""
    old = scenario.new_order()
    new = scenario.new_order(old.executor_id)
    with scenario.preparation():
        assign(scenario, old, acquired)
        if end == "cancelled":
            scenario.cancel(old)
        assign(scenario, new, acquired)
    scenario.cancel_nothing(old.order_id)
    scenario.acquire(new)


# Ways to make a field of a query bad: `name=value` -> the fields in its place.
BAD_FIELDS: dict[str, Callable[[str], list[str]]] = {
    "missing": lambda field: [],
    "empty": lambda field: [field.partition("=")[0] + "="],
    "control-character": lambda field: [field + "%00"],
    "too-long": lambda field: [field + "x" * MAX_LENGTH],
    "twice": lambda field: [field, field.partition("=")[0] + "=another"],
    "twice-the-other-way": lambda field: [field.partition("=")[0] + "=another", field],
}


def with_bad_field(request: Request, name: str, bad: str) -> Request:
    """Return a request with a parameter made bad in one of the ways of BAD_FIELDS."""
    fields = request.query.split("&")
    lists = [BAD_FIELDS[bad](field) if field.startswith(f"{name}=") else [field] for field in fields]
    return replace(request, query="&".join(itertools.chain(*lists)))


@pytest.mark.clause("LIFE-5")
@pytest.mark.parametrize("bad", BAD_FIELDS)
@pytest.mark.parametrize("name", ASSIGN.parameters)
def test_a_refused_assign_registers_nothing(scenario: Scenario, name: str, bad: str) -> None:
    """An assign with a bad parameter leaves the order unknown and the executor as they were."""
    current = scenario.prepare()
    order = scenario.new_order(current.executor_id)
    response = scenario.send(with_bad_field(assign_request(order), name, bad))
    scenario.check(400 <= response.status < 500, "a refusal (4xx)")
    scenario.acquire(current)
    scenario.assign(order)


@pytest.mark.clause("LIFE-5")
@pytest.mark.parametrize("bad", ["control-character", "too-long", "twice", "twice-the-other-way"])
def test_a_refused_cancel_cancels_nothing(scenario: Scenario, bad: str) -> None:
    """A cancel with a bad order_id leaves the order that it almost names active."""
    order = scenario.prepare()
    response = scenario.send(with_bad_field(cancel_request(order.order_id), "order_id", bad))
    scenario.check(400 <= response.status < 500, "a refusal (4xx)")
    scenario.acquire(order)


# Status -> an order in this status that is left alone from the start of the run to its end, and the steps so far; or
# what kept it from getting there.
Kept = dict[str, tuple[Order, list[Step]] | Violation]
every_status = pytest.mark.parametrize("status", STATUSES)


@pytest.fixture(scope="session")
def kept() -> Kept:
    """What the first tests of the run keep for the last ones."""
    return {}


@pytest.mark.first
@every_status
def test_an_order_is_left_at_the_start(scenario: Scenario, kept: Kept, status: str) -> None:
    """At the start, an order in each status is left alone until the end of the run."""
    try:
        kept[status] = scenario.prepare(status), scenario.steps
    except Violation as violation:
        kept[status] = violation
        raise


@pytest.mark.clause("LIFE-7")
@pytest.mark.last
@every_status
def test_it_is_the_same_at_the_end(scenario: Scenario, kept: Kept, status: str) -> None:
    """At the end of the run, thousands of requests later, the order is as it was."""
    if status not in kept:
        pytest.skip("nothing was left at the start")
    if isinstance(left := kept[status], Violation):
        raise left
    order, steps = left
    scenario.steps = list(steps)
    # Bytes that are not HTTP may have broken the server in the meantime.
    scenario.relies = frozenset({"WIRE-5"})
    scenario.assign_known(order)
    if status == "acquired":
        first = steps[-1].response
        assert first is not None
        scenario.check_same(scenario.acquire(order), first, f"the bytes of {scenario.run.elapsed_s:.0f} s ago")
    elif status == "assigned":
        scenario.acquire(order)
    else:
        scenario.cancel_nothing(order.order_id)


# The first random histories may take so long, however slow the server is.
FIRST_ROUND_S = 15

# Few values, so that histories often meet known orders and busy executors.
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
        self.scenario = Scenario(self.run, *self.connections)
        self.scenario.relies = reliance.LIFECYCLE
        self.state = model.State()
        self.token = self.run.new_id("history")
        self.first: dict[Order, Response] = {}

    def call(self, request: Request) -> None:
        """Make a call, and compare the answer with the model's."""
        # After the end, calls are left out. So the search for a shorter history finds none.
        if time.monotonic() > self.end:
            return
        expected = model.expected(self.state, request)
        try:
            response = self.scenario.call(request, expected.answer if expected else None)
            if expected and expected.order:
                self.scenario.check_profile(response, expected.order)
                first = self.first.setdefault(expected.order, response)
                self.scenario.check_same(response, first, "the bytes of the first acquire")
        except Violation:
            # The search for a shorter history may take as long as the budget allows.
            type(self).end = min(self.end, time.monotonic() + self.run.budget.lifecycle_s)
            raise
        if expected:
            self.state = expected.state

    def order(self, order: str, executor: str = "", zone: str = "") -> Order:
        """Return an order of this history."""
        return Order(f"{order}-{self.token}", f"{executor}-{self.token}", zone)

    def executor_id(self, executor: str) -> str:
        """Return an executor of this history."""
        return self.order("", executor).executor_id

    @rule(order=ORDERS, executor=EXECUTORS, zone=ZONES, look=st.booleans())
    def assign(self, order: str, executor: str, zone: str, look: bool) -> None:
        """Assign known and unknown orders to free and busy executors."""
        named = self.order(order, executor, zone)
        is_refused = self.state.known(named.order_id) is not None
        self.call(assign_request(named))
        if look and is_refused:
            # The refused assign may have changed something all the same.
            self.acquire(executor)

    @rule(executor=EXECUTORS)
    def assign_another(self, executor: str) -> None:
        """Assign an order that is certainly new."""
        self.assign(f"order-{len(self.state.orders)}-more", executor, "zone-1", look=False)

    @rule(executor=EXECUTORS)
    def acquire(self, executor: str) -> None:
        """Acquire, with and without an active order."""
        self.call(acquire_request(self.executor_id(executor)))

    @rule(order=ORDERS)
    def cancel(self, order: str) -> None:
        """Cancel active, ended and unknown orders."""
        self.call(cancel_request(self.order(order).order_id))

    @rule(executor=EXECUTORS)
    def cancel_and_look(self, executor: str) -> None:
        """Cancel an active order, and see that it is gone."""
        active = self.state.active_of(self.executor_id(executor))
        if active is not None:
            self.call(cancel_request(active.order_id))
            self.acquire(executor)

    @rule(order=ORDERS, executor=EXECUTORS, bad=st.sampled_from(["missing", "control-character", "twice"]))
    def assign_badly(self, order: str, executor: str, bad: str) -> None:
        """Assign with a bad parameter, which changes nothing."""
        self.call(with_bad_field(assign_request(self.order(order, executor, "zone-1")), "zone_id", bad))


@pytest.fixture
def connections(run: Run) -> Iterator[tuple[Connection, ...]]:
    """Connections to take in turn: two that are kept open, and a new one for each request."""
    connections = Connection(run.target), Connection(run.target), Connection(run.target, keep_alive=False)
    yield connections
    for connection in connections:
        connection.close()


@pytest.mark.clause("LIFE-6")
def test_random_histories_agree_with_the_model(run: Run, connections: tuple[Connection, ...]) -> None:
    """In random histories of few orders and executors, each answer is the model's."""
    until = time.monotonic() + run.budget.lifecycle_s
    for number in repeated(run.budget.lifecycle_s, least=1):

        @seed(run.seed + number)
        class OfThisServer(Lifecycle):
            pass

        OfThisServer.run = run
        OfThisServer.connections = connections
        OfThisServer.end = until if number else time.monotonic() + FIRST_ROUND_S
        run_state_machine_as_test(OfThisServer, settings=settings(SETTINGS, max_examples=20, stateful_step_count=20))
