"""Clients whose answer was lost, and who send the request again (RETRY)."""

import time
from collections.abc import Iterator

import pytest

from contract_tests.suite.calls import acquire_request, assign_request, cancel_request
from contract_tests.suite.contract import ACQUIRED, ALREADY_EXISTS, CANCELED, CREATED, not_active
from contract_tests.suite.scenario import Scenario, repeated
from contract_tests.suite.transport import Cut

# So long after the client has gone, the server has finished with the request.
SETTLED_S = 0.02

every_cut = pytest.mark.parametrize("cut", list(Cut))


def rounds(scenario: Scenario) -> Iterator[None]:
    """Begin one round after the other, as long as the budget allows."""
    for _ in repeated(scenario.run.budget.retries_s, least=4):
        scenario.forget()
        yield


@pytest.mark.clause("RETRY-1")
@every_cut
@pytest.mark.parametrize("busy", [False, True], ids=["free", "busy"])
def test_a_lost_assign_can_be_repeated(scenario: Scenario, cut: Cut, busy: bool) -> None:
    """The repeat says created or known, and from then on the executor has the order, once."""
    for _ in rounds(scenario):
        old = scenario.prepare() if busy else scenario.new_order()
        order = scenario.new_order(old.executor_id)
        scenario.send_and_leave(assign_request(order), cut)
        if busy:
            # The assign is done, or not: the executor has the new order, or still the old one.
            time.sleep(SETTLED_S)
            found = scenario.read(scenario.call(acquire_request(order.executor_id), ACQUIRED), "order_id")
            scenario.check(found in (order.order_id, old.order_id), "the new order, or still the old one")
        response = scenario.call(assign_request(order), ALREADY_EXISTS if cut is Cut.UNREAD else None)
        scenario.check(response.answer in (CREATED, ALREADY_EXISTS), f"{CREATED} or {ALREADY_EXISTS}")
        scenario.assign_known(order)
        scenario.acquire(order)


@pytest.mark.clause("RETRY-2")
@every_cut
def test_a_lost_acquire_can_be_repeated(scenario: Scenario, cut: Cut) -> None:
    """The repeat and every later acquire return the order, in the same bytes."""
    for _ in rounds(scenario):
        order = scenario.prepare()
        scenario.send_and_leave(acquire_request(order.executor_id), cut)
        first = scenario.acquire(order)
        time.sleep(SETTLED_S)
        scenario.check_same(scenario.acquire(order), first, "the bytes of the first acquire")


@pytest.mark.clause("RETRY-3")
@every_cut
def test_a_lost_cancel_can_be_repeated(scenario: Scenario, cut: Cut) -> None:
    """After the repeat the order is not active, whichever of the two cancelled it, and its executor is free."""
    for _ in rounds(scenario):
        order = scenario.prepare()
        gone = not_active(order.order_id)
        scenario.send_and_leave(cancel_request(order.order_id), cut)
        response = scenario.call(cancel_request(order.order_id), gone if cut is Cut.UNREAD else None)
        scenario.check(response.answer in (CANCELED, gone), f"{CANCELED} or {gone}")
        scenario.cancel_nothing(order.order_id)
        scenario.acquire_nothing(order.executor_id)
