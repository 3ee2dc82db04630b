"""Histories: requests on few executors and orders, and what came back. They are checked one by one.

No two histories name the same order or executor. So all of them together are linearizable if each of them is (Herlihy
and Wing, *Linearizability* (1990): it is a local property), and each is small enough to be checked fast.
"""

import threading
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from contract_tests.suite.calls import Order, acquire_request, assign_request, cancel_request
from contract_tests.suite.contract import ACQUIRED, ASSIGN, CANCELED, CREATED, UNKNOWN_ERROR
from contract_tests.suite.linearizability import is_linearizable
from contract_tests.suite.model import State
from contract_tests.suite.rules import expected_answer, judge, operation_of, wrong_form
from contract_tests.suite.transport import Request, Step

EXECUTORS = 3
# The orders that requests choose from move on with the history, so that old orders and new ones meet.
ORDERS_AT_ONCE = 4
STEPS_PER_ORDER = 10
# A history that has as many steps gets no more requests.
ENOUGH_STEPS = 80
OPEN_AT_ONCE = 3

DIAGNOSIS_SITUATIONS = 2_000

ACTIVE = ("assigned", "acquired")

# A row of the database: column -> text, as in an `order_profile`.
Row = dict[str, str | None]


class History:
    """Requests on few executors and orders, and what came back."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.executor_ids = [f"executor-{name}-{number}" for number in range(EXECUTORS)]
        self.steps: list[Step] = []

    def request(self, random: Random) -> Request:
        """Return a random call of a random operation."""
        order_id = f"order-{self.name}-{len(self.steps) // STEPS_PER_ORDER + random.randrange(ORDERS_AT_ONCE)}"
        executor_id = random.choice(self.executor_ids)
        match random.choice(("assign", "assign", "acquire", "acquire", "cancel")):
            case "assign":
                # The zone tells by whose assign the order was created.
                return assign_request(Order(order_id, executor_id, f"zone-{random.randrange(1000)}"))
            case "acquire":
                return acquire_request(executor_id)
            case _:
                return cancel_request(order_id)

    def add(self, step: Step) -> None:
        """Add a step. The outcome of a request with a 500 is unknown, as if it had no answer (D11)."""
        response = step.response
        if response is not None and response.answer == UNKNOWN_ERROR and not list(wrong_form(response)):
            step = replace(step, response=None, no_response=str(response))
        self.steps.append(step)


class Histories:
    """All histories of a run. A few are open at once: they get more requests. Several threads may use it."""

    def __init__(self) -> None:
        self.all = [History(str(number)) for number in range(OPEN_AT_ONCE)]
        self._open = list(self.all)
        self._lock = threading.Lock()

    def new(self, name: str) -> History:
        """Return a new history that is not open."""
        history = History(name)
        self.all.append(history)
        return history

    def choose(self, random: Random) -> History:
        """Return one of the open histories."""
        index = random.randrange(OPEN_AT_ONCE)
        with self._lock:
            if len(self._open[index].steps) >= ENOUGH_STEPS:
                self._open[index] = self.new(str(len(self.all)))
            return self._open[index]


def find_problem(steps: Sequence[Step], rows: Sequence[Row]) -> str | None:
    """Return what is wrong with a history and the rows of its orders at the end, or "" if nothing is wrong.

    Return None if the search for an order of the steps gave up.
    """
    stored = {row["order_id"]: row for row in rows}
    for step in steps:
        if problem := _problem_of_answer(step, stored):
            return f"{problem}: {shown(step)}"
    for row in rows:
        cancels = [step for step in steps if step.request == cancel_request(str(row["order_id"]))]
        if row["execution_status"] == "cancelled" and not any(may_have_cancelled(step) for step in cancels):
            return f"at the end, an order is cancelled that no request has cancelled (D5): {row}"
    found = is_linearizable(steps, State(), _state_of(rows))
    if found is False:
        return "no order of the requests explains the answers and leads to the rows at the end (D12, D13)"
    return "" if found else None


def _problem_of_answer(step: Step, stored: dict[str | None, Row]) -> str:
    """Return what is wrong with an answer by itself, or how the row of its order differs from it at the end (D13)."""
    operation = operation_of(step.request)
    if step.response is None or operation is None:
        return ""
    wrong, side_findings = judge(step.request, step.response)
    if expectations := [*([wrong] if wrong else []), *(finding.expected for finding in side_findings)]:
        return "; ".join(f"expected {expectation}" for expectation in expectations)
    values: Row = {**expected_answer(operation, step.request.query).values}
    if step.response.answer == CREATED:
        expected = values
    elif step.response.answer == CANCELED:
        expected = values | {"execution_status": "cancelled"}
    elif step.response.answer == ACQUIRED:
        # Whatever becomes of the order, the rest of its row never changes again (D4).
        expected = {name: value for name, value in step.response.profile.items() if name != "execution_status"}
    else:
        return ""
    row = stored.get(expected["order_id"])
    if row is None:
        return "at the end, the order of this request is not stored (D13)"
    if differing := {name: row[name] for name, value in expected.items() if row[name] != value}:
        return f"at the end, the order of this request has {differing} (D4, D13)"
    return ""


def may_have_cancelled(step: Step) -> bool:
    """Return whether a cancel has succeeded, or may have."""
    return step.response is None or step.response.answer == CANCELED


def _state_of(rows: Sequence[Row]) -> State:
    """Return the rows of a history's orders as a state of the model."""
    orders = {Order(*(str(row[name]) for name in ASSIGN.parameters)): row["execution_status"] for row in rows}
    return State(frozenset(orders), frozenset(order for order, status in orders.items() if status in ACTIVE))


def first_unexplained(steps: Sequence[Step]) -> Step | None:
    """Return the step with the first answer, by its time, that no order of the steps until then explains, if any.

    To be fast enough, the search may give up and miss it.
    """
    for last in sorted((step for step in steps if step.response is not None), key=lambda step: step.ended):
        # What was answered later may have taken effect already.
        until = [
            step if step.ended <= last.ended else replace(step, response=None)
            for step in steps
            if step.started <= last.ended
        ]
        if is_linearizable(until, State(), limit=DIAGNOSIS_SITUATIONS) is False:
            return last
    return None


def shown(step: Step) -> str:
    """Return a step in one line."""
    return f"{step.request.method} {step.request.path_and_query} → {step.got}"
