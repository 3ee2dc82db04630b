"""A scenario: requests to the server under test, in a row, each with what must come back.

Every answer to an operation is compared with the contract by `rules.judge`, whatever the test is about.

- A side finding, such as a wrong content type, is recorded under its own clause, and the scenario goes on.
- A wrong status or message ends the scenario. It breaks the clause that the test checks. In a `preparation`, it breaks
  the clause that says when the expected answer is due. So does an answer that the server has never given correctly.
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import NoReturn

import pytest

from contract_tests.suite.calls import Order, acquire_request, assign_request, cancel_request
from contract_tests.suite.contract import (
    ACQUIRED,
    ALREADY_EXISTS,
    ASSIGN,
    CANCELED,
    CREATED,
    NO_ORDERS,
    UNKNOWN_ERROR,
    Answer,
    not_active,
)
from contract_tests.suite.rules import clause_of, judge, operation_of
from contract_tests.suite.run import Run, Violation
from contract_tests.suite.transport import (
    TRANSPORT_ERRORS,
    Connection,
    Cut,
    Request,
    Response,
    Step,
    Target,
    explain,
    parse_response,
    send_and_leave,
    send_at_once,
    send_raw,
)


class Scenario:
    """Requests to the server under test, as steps of one scenario."""

    def __init__(self, run: Run, *connections: Connection) -> None:
        """Send requests over the connections in turn; if there are none, over a new one that is kept open."""
        self.run = run
        self.new_id = run.new_id
        self.steps: list[Step] = []
        self._connections = connections or (Connection(run.target),)
        # The clause that is being checked: that of the test, if it checks only one.
        self._clause = next(iter(run.clauses)) if len(run.clauses) == 1 else None
        self._groups = 0

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()

    def forget(self) -> None:
        """Forget the steps so far, because what follows does not depend on them."""
        self.steps = []

    @contextmanager
    def clause(self, clause: str | None) -> Iterator[None]:
        """Check a clause in this block. Only a test that checks several clauses needs it."""
        assert clause is None or clause in self.run.clauses, f"the test is not marked with {clause}"
        outer, self._clause = self._clause, clause
        try:
            yield
        finally:
            self._clause = outer

    def preparation(self) -> AbstractContextManager[None]:
        """Prepare the check in this block. What fails here does not fail the clause that the test checks."""
        return self.clause(None)

    # Orders.

    def new_order(self, executor_id: str | None = None) -> Order:
        """Return an order that is new to the server, for the given executor or for a new one."""
        return Order(self.new_id("order"), executor_id or self.new_id("executor"), self.new_id("zone"))

    def prepare(self, status: str = "assigned", executor_id: str | None = None) -> Order:
        """Return a new order in a status. What leads there is a preparation."""
        order = self.new_order(executor_id)
        with self.preparation():
            self.assign(order)
            match status:
                case "acquired":
                    self.acquire(order)
                case "cancelled":
                    self.cancel(order)
                case "completed":
                    self.assign(self.new_order(order.executor_id))
        return order

    # The operations, each with the answer that must come back.

    def assign(self, order: Order) -> Response:
        """Assign a new order: it is created."""
        return self.call(assign_request(order), CREATED)

    def assign_known(self, order: Order) -> Response:
        """Assign an order whose id is known: it is refused."""
        return self.call(assign_request(order), ALREADY_EXISTS)

    def acquire(self, order: Order) -> Response:
        """Acquire as the order's executor: this order comes back."""
        response = self.call(acquire_request(order.executor_id), ACQUIRED)
        self.check_profile(response, order)
        return response

    def acquire_nothing(self, executor_id: str) -> Response:
        """Acquire as an executor without an active order."""
        return self.call(acquire_request(executor_id), NO_ORDERS)

    def cancel(self, order: Order) -> Response:
        """Cancel an active order."""
        return self.call(cancel_request(order.order_id), CANCELED)

    def cancel_nothing(self, order_id: str) -> Response:
        """Cancel an order that is not active."""
        return self.call(cancel_request(order_id), not_active(order_id))

    def call(self, request: Request, expected: Answer | None = None) -> Response:
        """Call an operation, and check the answer. None allows each answer that the contract gives to the request."""
        response = self.send(request)
        self.check_step(self.steps[-1], expected)
        return response

    # Checks.

    def check(self, condition: bool, expected: str) -> None:
        """Fail the clause being checked unless the condition holds."""
        if not condition:
            self.fail(expected)

    def check_profile(self, response: Response, order: Order) -> None:
        """Check that the profile in a response is an order's. (Whether a key is missing is ACQUIRE-5's matter.)"""
        for name in ASSIGN.parameters:
            value = getattr(order, name)
            if response.profile.get(name, value) != value:
                self.fail(f'"{name}": "{value}" in the order_profile', otherwise="ACQUIRE-1")

    def check_step(self, step: Step, expected: Answer | None = None) -> None:
        """Check that the answer to a call is the expected one, or else one that the contract gives to the request."""
        assert step.response is not None
        wrong, side_findings = judge(step.request, step.response, expected)
        for finding in side_findings:
            self.run.record(finding.clause, finding.expected, [step], is_side=True)
        if wrong is None:
            self.run.answered.add(clause_of(step.response.answer))
            self._check_uuid(step, step.response)
            return
        # An answer that the server never gives correctly says nothing about the clause being checked.
        usual = wrong.is_other_answer or expected is None or clause_of(expected) in self.run.answered
        if usual or wrong.clause.startswith("PARAM-"):
            self.fail(wrong.expected, otherwise=wrong.clause, wrong=step)
        raise Violation(self.run.record(wrong.clause, wrong.expected, self.steps, wrong=step))

    def _check_uuid(self, step: Step, response: Response) -> None:
        uuid, order_id = (str(response.profile.get(name)) for name in ("assigned_order_id", "order_id"))
        if len(response.profile) > 1 and self.run.uuids.setdefault(uuid, order_id) != order_id:
            expected = f"an assigned_order_id that no other order has; {self.run.uuids[uuid]} has it"
            self.run.record("ACQUIRE-6", expected, [step], is_side=True)

    def fail(self, expected: str, otherwise: str = "", wrong: Step | None = None) -> NoReturn:
        """Fail the clause being checked, or `otherwise` if there is none. `wrong` is the step that shows it."""
        clause = self._clause or otherwise
        assert clause, f"no clause is being checked, and this failed: {expected}"
        raise Violation(self.run.record(clause, expected, self.steps, wrong=wrong))

    # Sending.

    def send(self, request: Request) -> Response:
        """Send any request; return its response, unchecked. A request without an answer fails."""
        connection = self._connections[len(self.steps) % len(self._connections)]
        started = time.monotonic()
        self.run.requests += 1
        try:
            response = connection.send(request)
        except TRANSPORT_ERRORS as error:
            self.add(Step(request, None, explain(error), started, time.monotonic()))
            self.fail_unanswered(self.steps[-1])
        ended = time.monotonic()
        self.run.durations.append(ended - started)
        self.add(Step(request, response, "", started, ended))
        return response

    def add(self, step: Step) -> None:
        """Add a step to the scenario, and record a 5xx, whatever the scenario is about."""
        self.steps.append(step)
        # An HTTP server refuses what it does not understand with 501 or 505.
        if step.response is None or step.response.status < 500 or step.response.status in (501, 505):
            return
        self.run.record("ERROR-2", "an answer that is not a 5xx", self.steps, is_side=True)
        if step.response.status != UNKNOWN_ERROR.status:
            return
        if step.response.json == {"message": UNKNOWN_ERROR.message}:
            self.run.passed.add("ERROR-1")
        else:
            self.run.record("ERROR-1", f"if there has to be an error, {UNKNOWN_ERROR}", [step], is_side=True)

    def fail_unanswered(self, step: Step) -> NoReturn:
        """Fail, because a step has no answer. Raises ServerLost if the server answers nothing else either."""
        self.run.check_alive(step.request, step.no_response)
        self.run.record("ERROR-2", "an answer", self.steps, wrong=step)
        self.fail("an answer", otherwise="ERROR-2", wrong=step)

    def at_once(self, *requests: Request, gap_s: float = 0.0) -> list[Response]:
        """Send requests so that they arrive at the same time, or `gap_s` apart; return the responses in this order.

        Each answer must be one that the contract gives to such a request.
        """
        self.close()
        self._groups += 1
        self.run.requests += len(requests)
        responses = []
        for step in self._send_at_once(requests, gap_s):
            if step.response is None:
                self.fail_unanswered(step)
            if operation_of(step.request) is not None:
                self.check_step(step)
            responses.append(step.response)
        return responses

    def _send_at_once(self, requests: Sequence[Request], gap_s: float) -> list[Step]:
        if self.run.can_hold is None:
            self.run.can_hold = self._can_hold()
        try:
            steps = send_at_once(self.run.target, requests, gap_s, hold=self.run.can_hold)
        except TRANSPORT_ERRORS as error:
            self.run.check_alive(requests[0], explain(error))
            pytest.skip(f"{len(requests)} connections at once are too many: {explain(error)}")
        steps = [replace(step, group=self._groups) for step in steps]
        for step in steps:
            self.add(step)
        return steps

    def _can_hold(self) -> bool:
        """Tell whether the server accepts connections while others have not sent all of their requests.

        One that serves them one after the other does not. The requests are harmless, because a server may take a
        request that is cut off for a whole one.
        """
        target = Target(self.run.target.base_url, min(2.0, self.run.target.timeout_s))
        try:
            steps = send_at_once(target, [acquire_request(self.new_id("probe"))] * 8)
        except TRANSPORT_ERRORS:
            return False
        return all(step.response is not None for step in steps)

    def send_raw(self, data: bytes, wait_s: float = 0.3) -> bytes:
        """Send bytes that need not be HTTP over a new connection; return what comes back, if anything."""
        request = Request("", "", raw=data)
        self.run.requests += 1
        try:
            received = send_raw(self.run.target, data, wait_s)
        except OSError as error:
            self.run.check_alive(request, explain(error))
            pytest.skip(f"no connection: {explain(error)}")
        shown = received[:300].decode(errors="backslashreplace")
        self.add(Step(request, parse_response(received), f"{shown!r}" if received else "nothing"))
        return received

    def send_and_leave(self, request: Request, cut: Cut) -> None:
        """Send a request, and end the connection without reading the answer."""
        self.close()
        self.run.requests += 1
        try:
            send_and_leave(self.run.target, request, cut)
        except OSError as error:
            self.run.check_alive(request, explain(error))
            pytest.skip(f"no connection: {explain(error)}")
        self.add(Step(request, None, f"not read: the connection was {cut}"))


def repeated(seconds: float, least: int = 3) -> Iterator[int]:
    """Yield 0, 1, … for some seconds, but at least `least` times."""
    end = time.monotonic() + seconds
    for number in itertools.count():
        if number >= least and time.monotonic() > end:
            return
        yield number
