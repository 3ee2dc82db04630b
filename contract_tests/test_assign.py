"""Assign: new orders, missing parameters, known orders, and that a refused assign changes nothing (ASSIGN)."""

import itertools
from dataclasses import replace

import pytest

from contract_tests.suite.calls import Order, assign_request, request_to
from contract_tests.suite.contract import ALREADY_EXISTS, ASSIGN, CREATED, STATUSES
from contract_tests.suite.scenario import CONNECTIONS, Scenario
from contract_tests.suite.transport import query_string
from contract_tests.suite.waiting import LEAST_S, WaitingOrders, seconds_between


@pytest.mark.clause("ASSIGN-1")
def test_a_new_order_is_created(scenario: Scenario) -> None:
    """A new order for a new executor is created, and so is one for another executor in the same zone."""
    order = scenario.new_order()
    scenario.assign(order)
    scenario.assign(replace(scenario.new_order(), zone_id=order.zone_id))


@pytest.mark.clause("ASSIGN-2")
@pytest.mark.parametrize(
    "absent", [names for count in (1, 2, 3) for names in itertools.combinations(ASSIGN.parameters, count)], ids="+".join
)
def test_an_absent_parameter_is_reported(scenario: Scenario, absent: tuple[str, ...]) -> None:
    """Whichever parameters are absent, the message lists all three. A known order makes no difference."""
    for order in (scenario.new_order(), scenario.prepare()):
        given = [(name, getattr(order, name)) for name in ASSIGN.parameters if name not in absent]
        scenario.call(request_to(ASSIGN, query_string(given)))


@pytest.mark.clause("ASSIGN-3")
@pytest.mark.parametrize("changed", [(), ("executor_id",), ("zone_id",), ("executor_id", "zone_id")], ids="+".join)
def test_a_known_order_is_refused(scenario: Scenario, changed: tuple[str, ...]) -> None:
    """A known order_id is refused, with the same parameters and with others."""
    order, other = scenario.prepare(), scenario.new_order()
    scenario.assign_known(replace(order, **{name: getattr(other, name) for name in changed}))


@pytest.mark.clause("ASSIGN-3")
def test_a_known_order_is_refused_whatever_the_header(scenario: Scenario) -> None:
    """A header that asks other services to repeat their first answer makes no difference."""
    headers = (("Idempotency-Key", scenario.new_id("key")),)
    request = replace(assign_request(scenario.new_order()), headers=headers)
    with scenario.preparation():
        scenario.call(request, CREATED)
    scenario.call(request, ALREADY_EXISTS)


@pytest.mark.clause("ASSIGN-3")
def test_an_order_is_known_over_any_connection(scenario: Scenario) -> None:
    """An assign is refused, whichever process of the service has taken the connection of the first one."""
    order = scenario.prepare()
    elsewhere = scenario.elsewhere()
    for _ in range(CONNECTIONS):
        elsewhere.assign_known(order)


@pytest.mark.clause("ASSIGN-4")
@pytest.mark.parametrize("acquired", [False, True], ids=["assigned", "acquired"])
def test_the_same_assign_again_changes_nothing(scenario: Scenario, acquired: bool) -> None:
    """Before and after the order is acquired, an assign that is sent again and again leaves everything as it was."""
    order = scenario.prepare()
    with scenario.preparation():
        first = scenario.acquire(order) if acquired else None
    for _ in range(3):
        scenario.assign_known(order)
    response = scenario.acquire(order)
    if first is not None:
        scenario.check_same(response, first, "the bytes of the acquire before the repeat")


@pytest.mark.clause("ASSIGN-4")
def test_the_same_assign_again_leaves_the_order_active(scenario: Scenario) -> None:
    """After a repeated assign, the order can be cancelled as before."""
    order = scenario.prepare()
    scenario.assign_known(order)
    scenario.cancel(order)


@pytest.mark.clause("ASSIGN-4")
def test_the_same_assign_again_keeps_the_time(scenario: Scenario, waiting_orders: WaitingOrders) -> None:
    """A repeated assign does not move the order's assign_time."""
    check_assign_time_after(scenario, order := waiting_orders.take("sent-again", scenario), order)


def check_assign_time_after(scenario: Scenario, order: Order, repeat: Order) -> None:
    """Send a refused assign, and check that an order that has waited keeps its assign_time."""
    scenario.assign_known(repeat)
    between = seconds_between(scenario, scenario.acquire(order))
    expected = (
        f"an acquire_time at least {LEAST_S:.1f} s after the assign_time: that of the assign that was not refused"
    )
    scenario.check(between >= LEAST_S, expected, f"an acquire_time {between} s after it")


@pytest.mark.clause("ASSIGN-5")
@pytest.mark.parametrize("acquired", [False, True], ids=["assigned", "acquired"])
@pytest.mark.parametrize("changed", [("executor_id",), ("zone_id",), ("executor_id", "zone_id")], ids="+".join)
def test_a_refused_assign_leaves_the_known_order(scenario: Scenario, changed: tuple[str, ...], acquired: bool) -> None:
    """The order keeps its executor, zone and times. Another executor that the refused assign names does not get it."""
    order, other = scenario.prepare(), scenario.new_order()
    with scenario.preparation():
        first = scenario.acquire(order) if acquired else None
    scenario.assign_known(replace(order, **{name: getattr(other, name) for name in changed}))
    response = scenario.acquire(order)
    if first is not None:
        scenario.check_same(response, first, "the bytes of the acquire before the refused assign")
    scenario.acquire_nothing(other.executor_id)


@pytest.mark.clause("ASSIGN-5")
def test_a_refused_assign_leaves_the_time(scenario: Scenario, waiting_orders: WaitingOrders) -> None:
    """A refused assign with another executor and zone does not move the known order's assign_time."""
    order = waiting_orders.take("named-again", scenario)
    check_assign_time_after(scenario, order, replace(scenario.new_order(), order_id=order.order_id))


@pytest.mark.clause("ASSIGN-6")
@pytest.mark.parametrize("acquired", [False, True], ids=["of-assigned", "of-acquired"])
@pytest.mark.parametrize("status", STATUSES)
def test_a_refused_assign_leaves_the_executor_it_names(scenario: Scenario, status: str, acquired: bool) -> None:
    """Whatever the status of the known order, the executor whom a refused assign names keeps their own order."""
    known, current = scenario.prepare(status), scenario.prepare()
    with scenario.preparation():
        first = scenario.acquire(current) if acquired else None
    for _ in range(3):
        scenario.assign_known(replace(known, executor_id=current.executor_id))
    response = scenario.acquire(current)
    if first is not None:
        scenario.check_same(response, first, "the bytes of the acquire before the refused assign")
    scenario.cancel(current)


@pytest.mark.clause("ASSIGN-6")
@pytest.mark.parametrize("status", STATUSES)
def test_a_refused_assign_gives_a_free_executor_nothing(scenario: Scenario, status: str) -> None:
    """An executor without an order, whom a refused assign names, has none afterwards, and can be assigned one."""
    known, order = scenario.prepare(status), scenario.new_order()
    scenario.assign_known(replace(known, executor_id=order.executor_id))
    scenario.acquire_nothing(order.executor_id)
    scenario.assign(order)
    scenario.acquire(order)


@pytest.mark.clause("ASSIGN-7")
@pytest.mark.parametrize("acquired", [False, True], ids=["unseen", "acquired"])
@pytest.mark.parametrize("end", ["cancelled", "completed"])
def test_an_order_id_stays_known(scenario: Scenario, end: str, acquired: bool) -> None:
    """An ended order is refused with the same parameters and with others."""
    order = scenario.prepare("acquired" if acquired else "assigned")
    with scenario.preparation():
        if end == "cancelled":
            scenario.cancel(order)
        else:
            scenario.assign(scenario.new_order(order.executor_id))
    scenario.assign_known(order)
    scenario.assign_known(replace(scenario.new_order(), order_id=order.order_id))
