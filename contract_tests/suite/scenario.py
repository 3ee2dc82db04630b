"""A scenario: requests to the server under test, in a row, each with what must come back.

Every answer to an operation is compared with the contract by `rules.judge`, whatever the test is about.

- A side finding, such as a wrong content type, is recorded under its own clause, and the scenario goes on.
- A wrong status or message ends the scenario. It breaks the clause that the test checks. In a `preparation`, it breaks
  the clause that says how this request is answered in this situation.

Each failure is recorded with the clauses that it relied on (`reliance`), so that the run can tell causes from effects.
"""

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import NoReturn

import pytest

from contract_tests.suite import reliance
from contract_tests.suite.calls import Order, acquire_request, assign_request, cancel_request
from contract_tests.suite.contract import (
    ACQUIRED,
    ALREADY_EXISTS,
    ASSIGN,
    CANCELED,
    CREATED,
    METHOD_NOT_ALLOWED,
    NO_ORDERS,
    UNKNOWN_ERROR,
    Answer,
    not_active,
)
from contract_tests.suite.rules import expected_answer, judge, operation_of, wrong_form
from contract_tests.suite.run import Failure, Run, Violation
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

# So many connections reach each of a few processes almost certainly.
CONNECTIONS = 8


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
        # What the scenario relies on beyond its own steps.
        self.relies: frozenset[str] = frozenset()
        self._groups = 0

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()

    def forget(self) -> None:
        """Forget the steps so far, because what follows does not depend on them."""
        self.steps = []

    def elsewhere(self) -> "Scenario":
        """Return a scenario with the same steps that goes on over a new connection for each request."""
        scenario = Scenario(self.run, Connection(self.run.target, keep_alive=False))
        scenario.steps = self.steps
        return scenario

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

    def check(self, condition: bool, expected: str, got: str = "") -> None:
        """Fail the clause being checked unless the condition holds. `got` says in words what came back."""
        if not condition:
            self.fail(expected, got)

    def check_same(self, response: Response, first: Response, expected: str) -> None:
        """Check that a response has the same bytes as an earlier one. `expected` says in words what it should be."""
        self.check(response.body == first.body, expected, difference(first, response))

    def check_profile(self, response: Response, order: Order) -> None:
        """Check that the profile in a response is an order's. (Whether a key is missing is ACQUIRE-5's matter.)"""
        for name in ASSIGN.parameters:
            value, got = getattr(order, name), response.profile.get(name)
            if name in response.profile and got != value:
                self.fail(f'"{name}": "{value}" in the order_profile', f'"{name}": {got!r}')

    def read(self, response: Response, name: str) -> str:
        """Return a property of the profile in a response. Without it, the check cannot go on (ACQUIRE-5)."""
        if name not in response.profile:
            self.fail(f"{name} in the order_profile", clause="ACQUIRE-5")
        return str(response.profile[name])

    def check_step(self, step: Step, expected: Answer | None = None) -> None:
        """Check that the answer to a call is the expected one, or else one that the contract gives to the request."""
        assert step.response is not None
        wrong, side_findings = judge(step.request, step.response, expected)
        for finding in side_findings:
            relies = frozenset[str]()
            if finding.has_history:
                relies = (reliance.of(self._until(step)) | self.relies) - {"ACQUIRE-1"}
            elif finding.clause == "CANCEL-5":
                # An identifier that is read wrongly is also echoed wrongly, and so may be that of another request.
                relies = reliance.of(self._until(step) if step.group else [step]) | self.relies
            failure = self._failure(
                finding.clause, finding.expected, finding.got or step.got, relies=relies, wrong=step
            )
            self.run.record(failure, is_side=True)
        if wrong:
            self.fail(wrong, wrong=step)
        self._check_uuid(step, step.response)

    def _check_uuid(self, step: Step, response: Response) -> None:
        uuid, order_id = (str(response.profile.get(name)) for name in ("assigned_order_id", "order_id"))
        if len(response.profile) > 1 and self.run.uuids.setdefault(uuid, order_id) != order_id:
            expected = "an assigned_order_id that no other order has"
            got = f'"assigned_order_id": "{uuid}", as order {self.run.uuids[uuid]} has it'
            self.run.record(self._failure("ACQUIRE-6", expected, got, relies=frozenset(), wrong=step), is_side=True)

    def fail(self, expected: str, got: str = "", clause: str = "", wrong: Step | None = None) -> NoReturn:
        """Fail a clause: the one that is being checked, unless another is given.

        In a preparation, it is the clause that says how this request is answered. `wrong` is the step that shows it, by
        default the last one.
        """
        wrong = wrong or self.steps[-1]
        relies = reliance.of(self._until(wrong)) | symptoms(wrong) | self.relies
        if "ERROR-2" in relies:
            relies |= self._may_have_broken_all()
        clause = clause or self._clause or self._clause_of_answer(wrong)
        raise Violation(self.run.record(self._failure(clause, expected, got, relies=relies, wrong=wrong)))

    def _failure(
        self, clause: str, expected: str, got: str = "", *, relies: frozenset[str], wrong: Step | None = None
    ) -> Failure:
        steps = self._until(wrong or self.steps[-1])
        return Failure(clause, expected, tuple(steps), self.run.test, got or _got(steps, wrong), relies - {clause})

    def _until(self, last: Step) -> list[Step]:
        """Return the steps up to one of them, with its whole group."""
        for index, step in enumerate(self.steps, 1):
            if step is last or (last.group and step.group == last.group):
                end = index
        return self.steps[:end]

    def _clause_of_answer(self, step: Step) -> str:
        """Return the clause that says how a step is answered in its situation."""
        *_, own = reliance.of_each(self._until(step))
        return min(symptoms(step) - {"PARAM-4"}, default="") or own.answer[-1]

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
        response = self.understand(request, response)
        self.add(Step(request, response, "", started, ended))
        return response

    def understand(self, request: Request, response: Response) -> Response:
        """Return a response that means what the contract has other words for, unless the words are being checked."""
        return self.run.understand(request, response, self._clause)

    def add(self, step: Step) -> None:
        """Add a step to the scenario, and record a 5xx, whatever the scenario is about."""
        self.steps.append(step)
        self._record_error(step)

    def _record_error(self, step: Step) -> None:
        # An HTTP server refuses what it does not understand with 501 or 505.
        if step.response is None or step.response.status < 500 or step.response.status in (501, 505):
            return
        relies = self._may_have_broken_all()
        self.run.record(
            self._failure("ERROR-2", "an answer that is not a 5xx", step.got, relies=relies, wrong=step), is_side=True
        )
        if step.response.answer == UNKNOWN_ERROR and step.response.json == {"message": UNKNOWN_ERROR.message}:
            self.run.passed.add("ERROR-1")
        else:
            expected = f"if there has to be an error, {UNKNOWN_ERROR}"
            self.run.record(self._failure("ERROR-1", expected, step.got, relies=relies, wrong=step), is_side=True)

    def _may_have_broken_all(self) -> frozenset[str]:
        """Return the clauses of bytes that are not HTTP, if the run has sent any, and of bodies, if the steps have any.

        A server that misreads them answers no request as usual that follows on the connection, or none at all.
        """
        has_body = any(step.request.body for step in self.steps)
        return frozenset([*(["WIRE-5"] if self.run.sent_raw else []), *(["PARAM-11"] if has_body else [])])

    def fail_unanswered(self, step: Step) -> NoReturn:
        """Fail, because a step has no answer. Raises ServerLost if the server answers nothing else either."""
        self.run.check_alive(step.request, step.no_response)
        self.run.record(self._failure("ERROR-2", "an answer", relies=self._may_have_broken_all(), wrong=step))
        self.fail("an answer", wrong=step)

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
        steps = [
            replace(step, group=self._groups, response=step.response and self.understand(step.request, step.response))
            for step in steps
        ]
        self.steps += steps
        for step in steps:
            self._record_error(step)
        return steps

    def _can_hold(self) -> bool:
        """Return whether the server accepts connections while others have not sent all of their requests.

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
        self.run.sent_raw = True
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
        self.add(Step(request, None, f"not read: the connection was {cut}", cut=cut))


def repeated(seconds: float, least: int = 3) -> Iterator[int]:
    """Yield 0, 1, … for some seconds, but at least `least` times."""
    end = time.monotonic() + seconds
    for number in itertools.count():
        if number >= least and time.monotonic() > end:
            return
        yield number


def symptoms(step: Step) -> frozenset[str]:
    """Return the clauses that a wrong answer breaks by itself, whatever the contract says about its request."""
    operation, response = operation_of(step.request), step.response
    if response is None or (response.status >= 500 and response.status not in (501, 505)):
        return frozenset({"ERROR-2"})
    if operation is None:
        # To HEAD, a server has the words of any other method.
        is_refusal = 400 <= response.status < 500 and response.status != METHOD_NOT_ALLOWED.status
        return frozenset({"WIRE-3"} if step.request.method == "HEAD" and is_refusal else ())
    found = set()
    if response.status in operation.regular_statuses and any(wrong_form(response)):
        found.add("WIRE-1")
    if expected_answer(operation, step.request.query).kind == "invalid" and 400 <= response.status < 500:
        # An invalid parameter is refused in other words than those of PARAM-4, which are the same for all of them.
        found.add("PARAM-4")
    return frozenset(found)


def difference(first: Response, second: Response) -> str:
    """Return in words what differs between two responses that should have the same body."""
    before, after = first.profile, second.profile
    if not before or not after or first.answer != second.answer:
        return f"first {first}, then {second}"
    changed = [
        f"{name} was {before.get(name)!r}, then {after.get(name)!r}"
        for name in before | after
        if before.get(name) != after.get(name)
    ]
    shown = (response.body.decode(errors="backslashreplace") for response in (first, second))
    return "; ".join(changed) or "the same values in other bytes: first {}, then {}".format(*shown)


def _got(steps: Sequence[Step], wrong: Step | None) -> str:
    """Return in words what came back: in the wrong step, or how often which answer in its group."""
    last = wrong or steps[-1]
    counts = Counter(step.got for step in steps if step.group and step.group == last.group)
    if len(counts) < 2:
        return last.got
    return "; ".join(f"{count} × {got}" for got, count in counts.most_common())
