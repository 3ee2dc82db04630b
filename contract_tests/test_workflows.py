"""Operations in a row along the contract's links, as Schemathesis generates them (SCHEMA-2, SCHEMA-3)."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from hypothesis import seed, settings
from hypothesis.errors import Flaky

from contract_tests.suite import generated, model, reliance
from contract_tests.suite.contract import ACQUIRED, ALREADY_EXISTS, CANCELED, CREATED, NO_ORDERS, Answer
from contract_tests.suite.rules import operation_of
from contract_tests.suite.run import Run, ServerLost, Violation
from contract_tests.suite.scenario import Scenario, repeated
from contract_tests.suite.settings import SETTINGS, raised_by_check
from contract_tests.suite.transport import Connection

# The first rounds may take so long, however slow the server is.
FIRST_ROUNDS_S = 15

schema = generated.load()
Workflows: Any = schema.as_state_machine()


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """A session for what Schemathesis sends."""
    with generated.new_session() as session:
        yield session


def machine(run: Run, session: requests.Session, end: float, seen: set[Answer]) -> Any:
    """Return the state machine of this run. It compares each answer with the model's, and adds it to `seen`."""
    connection = Connection(run.target)

    class OfThisRun(Workflows):  # type: ignore[misc]
        """Follows the contract's links, and the model with it."""

        def setup(self) -> None:
            self.scenario = Scenario(run, connection)
            # Schemathesis may send a request again whose answer was lost.
            self.scenario.relies = reliance.FORM | {"ERROR-2"}
            self.state = model.State()

        def teardown(self) -> None:
            connection.close()

        def step(self, input: Any) -> Any:
            """Send a request with new identifiers, except those that a link gave. Send nothing if the time is up."""
            if time.monotonic() > end:
                return None
            linked = frozenset(name for _, name in input.applied_parameters)
            input.case.query = generated.renew(run, dict(input.case.query), keep=linked)
            return super().step(input)

        @contextmanager
        def clause(self) -> Iterator[None]:
            """Check the clause. If it fails, the search for a shorter way may take as long as the budget allows."""
            nonlocal end
            try:
                with self.scenario.clause("SCHEMA-2"):
                    yield
            except Violation:
                end = min(end, time.monotonic() + run.budget.workflows_s)
                raise

        def call(self, case: Any, **_: Any) -> Any:
            with self.clause():
                return generated.call(self.scenario, case, session)[1]

        def validate_response(self, response: Any, case: Any, **_: Any) -> None:
            """Compare the answer with the model's, and run Schemathesis's checks."""
            step = self.scenario.steps[-1]
            expected = model.expected(self.state, step.request)
            with self.clause():
                if operation_of(step.request) is not None:
                    self.scenario.check_step(step, expected.answer if expected else None)
                may_be_refused = expected is not None and expected.answer == ALREADY_EXISTS
                generated.check(self.scenario, case, response, may_be_refused=may_be_refused)
            if expected is not None:
                self.state = expected.state
                seen.add(expected.answer)

    return OfThisRun


@pytest.mark.clause("SCHEMA-2", "SCHEMA-3")
def test_linked_operations_agree_with_the_model(run: Run, session: requests.Session) -> None:
    """Along the links, each answer is the model's, and each kind of answer occurs."""
    seen: set[Answer] = set()
    until = time.monotonic() + run.budget.workflows_s
    # Hypothesis may silently end a round early, because the server's state makes the replay of a beginning go another
    # way. So there are rounds until the time is over, each with another seed.
    for number in repeated(run.budget.workflows_s, least=2):
        end = until if number > 1 else time.monotonic() + FIRST_ROUNDS_S
        try:
            random_machine = seed(run.seed + number)(machine(run, session, end, seen))
            random_machine.run(settings=settings(SETTINGS, max_examples=15, stateful_step_count=8))
        except Flaky as flaky:
            if isinstance(raised_by_check(flaky), ServerLost):
                raise
            # Hypothesis gave up this round. What it found until then is recorded.
            if "SCHEMA-2" in run.failures:
                break
        except Violation:
            raise
        except AssertionError:
            # One of Hypothesis's own, if it cannot repeat what it has found.
            if "SCHEMA-2" not in run.failures:
                raise
            break
    with Scenario(run).clause("SCHEMA-3"):
        unseen = {CREATED, ALREADY_EXISTS, ACQUIRED, NO_ORDERS, CANCELED} - seen
        if unseen and run.failures:
            pytest.skip("not every kind of answer came as expected")
        assert not unseen, f"no request was answered {', '.join(sorted(map(str, unseen)))}"
