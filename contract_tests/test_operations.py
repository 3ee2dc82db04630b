"""Each operation by itself, with the requests that Schemathesis generates from the contract (SCHEMA-1).

Schemathesis sends its examples, what covers each parameter's limits, and random requests. Each answer is compared with
the contract twice: by Schemathesis's checks, and with the answer that this request must get. Each order that is created
then goes through its life: a repeated assign changes nothing, the order is handed out as it is, and cancelled once.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import settings

from contract_tests.suite import generated, model, reliance
from contract_tests.suite.calls import Order
from contract_tests.suite.contract import CREATED
from contract_tests.suite.rules import operation_of
from contract_tests.suite.run import Run
from contract_tests.suite.scenario import Scenario
from contract_tests.suite.settings import SETTINGS

schema = generated.load()


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    """A session for what Schemathesis sends."""
    with generated.new_session() as session:
        yield session


@pytest.mark.clause("SCHEMA-1")
@schema.parametrize()
@settings(SETTINGS, max_examples=Run.current.budget.examples)
def test_generated_requests_get_the_expected_answer(case: Any, run: Run, session: requests.Session) -> None:
    """Whether the contract allows a request or not, the answer is the one that it gives to this request."""
    scenario = Scenario(run)
    # Schemathesis may send a request again whose answer was lost.
    scenario.relies = reliance.FORM | {"ERROR-2"}
    try:
        case.query = generated.renew(run, dict(case.query))
        step, received = generated.call(scenario, case, session)
        # The identifiers are new, so the server answers as if it knew nothing.
        expected = model.expected(model.State(), step.request)
        if operation_of(step.request) is not None:
            scenario.check_step(step, expected.answer if expected else None)
        generated.check(scenario, case, received)
        if expected and expected.answer == CREATED:
            (order,) = expected.state.orders
            live(scenario, order)
    finally:
        scenario.close()


def live(scenario: Scenario, order: Order) -> None:
    """Take an order that was just created through its life."""
    first = scenario.acquire(order)
    scenario.assign_known(order)
    scenario.assign_known(Order(order.order_id, scenario.new_id("executor"), "zone"))
    scenario.check(scenario.acquire(order).body == first.body, "the bytes of the first acquire")
    scenario.cancel(order)
    scenario.cancel_nothing(order.order_id)
    scenario.acquire_nothing(order.executor_id)
