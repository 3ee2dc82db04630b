"""Operations in a row along the contract's links, as Schemathesis generates them (SCHEMA-2, SCHEMA-3)."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, seed, settings
from hypothesis.errors import Flaky

from contract_tests import generated, model
from contract_tests.rules import (
    ACQUIRED,
    ALREADY_EXISTS,
    CANCELED,
    CREATED,
    NO_ORDERS,
    clause_of,
    deserves,
    operation_of,
)
from contract_tests.run import Run, Violation
from contract_tests.service import Order, Service, repeated
from contract_tests.transport import Connection

# So long the first rounds may take, however slow the server is.
FIRST_ROUNDS_S = 15

schema = generated.load()
Workflows: Any = schema.as_state_machine()


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """A session for what Schemathesis sends."""
    with generated.new_session() as session:
        yield session


def machine(run: Run, session: requests.Session, end: float, seen: Counter[str]) -> Any:
    """Return the state machine of this run: each answer is the model's, and its messages are counted."""
    connection = Connection(run.target)

    class OfThisRun(Workflows):  # type: ignore[misc]
        """Follows the contract's links, beside the model."""

        def setup(self) -> None:
            self.service = Service(run, connection)
            self.state = model.State()

        def teardown(self) -> None:
            connection.close()

        def step(self, input: Any) -> Any:
            """Make new the identifiers that no link has given, and go on, unless the time is up."""
            if time.monotonic() > end:
                return None
            linked = frozenset(name for _, name in input.applied_parameters)
            input.case.query = generated.renew(run, dict(input.case.query), keep=linked)
            return super().step(input)

        @contextmanager
        def clause(self) -> Iterator[None]:
            """Check the clause; when it fails, look for a shorter way to it for as long as the budget allows."""
            nonlocal end
            try:
                with self.service.clause("SCHEMA-2"):
                    yield
            except Violation:
                end = min(end, time.monotonic() + run.budget.workflows_s)
                raise

        def call(self, case: Any, **_: Any) -> Any:
            with self.clause():
                return generated.call(self.service, case, session)[1]

        def validate_response(self, response: Any, case: Any, **_: Any) -> None:
            """Hold the answer against the model and against Schemathesis's checks."""
            exchange = self.service.exchanges[-1]
            operation = operation_of(exchange.request)
            due = None
            if operation is not None:
                deserved = deserves(operation, exchange.request.query)
                if deserved.kind == "valid":
                    values = {"order_id": "", "executor_id": "", "zone_id": ""} | deserved.values
                    due = self.due(operation.name, Order(**values))
            with self.clause():
                if operation is not None:
                    self.service.judge(exchange, due.message if due else None)
                generated.check(
                    self.service, case, response, may_be_refused=due is not None and due.message == ALREADY_EXISTS
                )
            if due is not None:
                self.state = due.state
                seen[clause_of(due.message)] += 1

        def due(self, operation: str, order: Order) -> model.Due:
            """Return what a call is due."""
            match operation:
                case "assign":
                    return model.assign(self.state, order)
                case "acquire":
                    return model.acquire(self.state, order.executor_id)
                case _:
                    return model.cancel(self.state, order.order_id)

    return OfThisRun


@pytest.mark.clause("SCHEMA-2", "SCHEMA-3")
def test_linked_operations_agree_with_the_model(run: Run, session: requests.Session) -> None:
    """Along the links, each answer is the one that is due; and every kind of answer comes up."""
    seen: Counter[str] = Counter()
    until = time.monotonic() + run.budget.workflows_s
    # Hypothesis may end a round early, when the server's state makes a replayed beginning go another way; and nobody
    # would notice. So there are rounds until the time is over, each with another seed.
    for number in repeated(run.budget.workflows_s, least=2):
        end = until if number > 1 else time.monotonic() + FIRST_ROUNDS_S
        # A round that Hypothesis gave up has checked what it has checked: what it found is recorded.
        try:
            seed(run.seed + number)(machine(run, session, end, seen)).run(
                settings=settings(
                    max_examples=15,
                    stateful_step_count=8,
                    deadline=None,
                    database=None,
                    print_blob=False,
                    derandomize=False,
                    suppress_health_check=list(HealthCheck),
                )
            )
        except Flaky:
            if "SCHEMA-2" in run.failures:
                break
    service = Service(run)
    with service.clause("SCHEMA-3"):
        unseen = {CREATED, ALREADY_EXISTS, ACQUIRED, NO_ORDERS, CANCELED} - {
            message for message in (CREATED, ALREADY_EXISTS, ACQUIRED, NO_ORDERS, CANCELED) if seen[clause_of(message)]
        }
        if unseen and run.failures:
            pytest.skip(f"not given rightly: {', '.join(sorted(unseen))}")
        assert not unseen, f"of {seen.total()} answers none was {', '.join(sorted(unseen))}"
