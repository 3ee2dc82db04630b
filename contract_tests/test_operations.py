"""Each operation by itself, with the requests that Schemathesis generates from the contract (SCHEMA-1).

Its examples, its coverage of each parameter's limits, and fuzzing. Every answer is held against the contract twice: by
Schemathesis's checks, and by the branch that the request deserves. Every order that comes into being is then taken
through its life: repeating its assign changes nothing, it is handed out as it is, and cancelled once.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, settings

from contract_tests import current, generated
from contract_tests.rules import ASSIGN, CREATED, NO_ORDERS, deserves, not_active, operation_of
from contract_tests.run import Run
from contract_tests.service import Order, Service

schema = generated.load()


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    """A session for what Schemathesis sends."""
    with generated.new_session() as session:
        yield session


@pytest.mark.clause("SCHEMA-1")
@schema.parametrize()
@settings(
    max_examples=current.run.budget.examples,
    deadline=None,
    database=None,
    print_blob=False,
    derandomize=False,
    suppress_health_check=list(HealthCheck),
)
def test_generated_requests_get_the_answer_they_deserve(case: Any, run: Run, session: requests.Session) -> None:
    """Whatever the contract lets a client send, and whatever it does not, the answer is the one that is due."""
    service = Service(run)
    try:
        case.query = generated.renew(run, dict(case.query))
        with service.clause("SCHEMA-1"):
            exchange, response = generated.call(service, case, session)
            operation = operation_of(exchange.request)
            if operation is not None:
                deserved = deserves(operation, exchange.request.query)
                due = {"assign": CREATED, "acquire": NO_ORDERS}.get(operation.name)
                if operation.name == "cancel" and deserved.kind == "valid":
                    due = not_active(deserved.values["order_id"])
                service.judge(exchange, due if deserved.kind == "valid" else None)
            generated.check(service, case, response)
            if operation is ASSIGN and deserved.kind == "valid":
                live(service, Order(**deserved.values))
    finally:
        service.close()


def live(service: Service, order: Order) -> None:
    """Take an order that was just created through its life."""
    first = service.acquire(order)
    service.assign_known(order)
    service.assign_known(Order(order.order_id, service.run.new_id("executor"), "zone"))
    service.check(service.acquire(order).body == first.body, "the bytes of the first acquire")
    service.cancel(order)
    service.cancel_nothing(order.order_id)
    service.acquire_nothing(order.executor_id)
