"""The service under test, as a scenario calls it: each call says what must come back.

Every answer to an operation is held against the contract by `rules.judge`, whatever the scenario is about. What is
wrong beside an answer's branch (a content type, a key too many) is recorded under its own clause, and the scenario goes
on. An answer of the wrong branch ends the scenario. It counts for the clause that is being checked (`with
service.clause("ASSIGN-6")`), or, before and after that and for an answer that the server never gets right, for the
clause that says when that answer is due.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NoReturn

import pytest

from contract_tests.rules import (
    ACQUIRE,
    ACQUIRED,
    ALREADY_EXISTS,
    ASSIGN,
    CANCEL,
    CANCELED,
    CREATED,
    NO_ORDERS,
    UNKNOWN_ERROR,
    clause_of,
    judge,
    not_active,
    operation_of,
)
from contract_tests.run import Run, Violation
from contract_tests.transport import (
    TRANSPORT_ERRORS,
    Answer,
    Connection,
    Cut,
    Exchange,
    Request,
    Target,
    encode,
    explain,
    parse_answer,
    send_and_leave,
    send_at_once,
    send_raw,
)


@dataclass(frozen=True)
class Order:
    """An order that a scenario is about."""

    order_id: str
    executor_id: str
    zone_id: str


def assign_request(order: Order) -> Request:
    """Return the request that assigns an order."""
    values = (("order_id", order.order_id), ("executor_id", order.executor_id), ("zone_id", order.zone_id))
    return Request(ASSIGN.method, ASSIGN.path, encode(values))


def acquire_request(executor_id: str) -> Request:
    """Return the request that acquires an executor's order."""
    return Request(ACQUIRE.method, ACQUIRE.path, encode([("executor_id", executor_id)]))


def cancel_request(order_id: str) -> Request:
    """Return the request that cancels an order."""
    return Request(CANCEL.method, CANCEL.path, encode([("order_id", order_id)]))


class Service:
    """The service under test, with the exchanges of one scenario."""

    def __init__(self, run: Run, *connections: Connection) -> None:
        """Talk to the run's server over the connections in turn; without any, over one that is kept."""
        self.run = run
        self.exchanges: list[Exchange] = []
        self._connections = connections or (Connection(run.target),)
        self._clause: str | None = None
        self._groups = 0

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()

    def new_order(self, executor_id: str | None = None) -> Order:
        """Return an order that the service has not seen, for an executor that it has not seen unless given."""
        new_id = self.run.new_id
        return Order(new_id("order"), executor_id or new_id("executor"), new_id("zone"))

    def begin(self) -> None:
        """Begin another scenario: what was sent so far has nothing to do with it."""
        self.exchanges = []

    @contextmanager
    def clause(self, clause: str) -> Iterator[None]:
        """Check a clause that the test is marked with: it passes if the block ends well, else it fails."""
        if clause not in self.run.clauses:
            raise LookupError(f"the test is not marked with {clause}")
        outer, self._clause = self._clause, clause
        try:
            yield
        except Violation as violation:
            if violation.failure.clause != clause:
                self.run.blocked.setdefault(clause, f"{violation.failure.clause} failed on the way to it")
            raise
        except pytest.skip.Exception as reason:
            self.run.blocked.setdefault(clause, str(reason))
            raise
        except Exception as error:
            self.run.broken.setdefault(clause, f"{type(error).__name__}: {error}")
            raise
        else:
            self.run.passed.add(clause)
        finally:
            self._clause = outer

    # The operations, each with the answer that must come back.

    def assign(self, order: Order) -> Answer:
        """Assign a new order: it is created."""
        return self.call(assign_request(order), CREATED)

    def assign_known(self, order: Order) -> Answer:
        """Assign an order whose id is known: it is refused."""
        return self.call(assign_request(order), ALREADY_EXISTS)

    def acquire(self, order: Order) -> Answer:
        """Acquire as the order's executor: this order comes back."""
        answer = self.call(acquire_request(order.executor_id), ACQUIRED)
        self.check_is(answer, order)
        return answer

    def acquire_nothing(self, executor_id: str) -> Answer:
        """Acquire as an executor without an active order."""
        return self.call(acquire_request(executor_id), NO_ORDERS)

    def cancel(self, order: Order) -> Answer:
        """Cancel an active order."""
        return self.call(cancel_request(order.order_id), CANCELED)

    def cancel_nothing(self, order_id: str) -> Answer:
        """Cancel an order that is not active."""
        return self.call(cancel_request(order_id), not_active(order_id))

    def check_is(self, answer: Answer, order: Order) -> None:
        """Check that the profile in an answer is an order's. (Missing keys are ACQUIRE-5's matter.)"""
        for name in ("order_id", "executor_id", "zone_id"):
            value = getattr(order, name)
            if answer.profile.get(name, value) != value:
                self.fail(f'"{name}": "{value}" in the order_profile', otherwise="ACQUIRE-1")

    # Sending, and judging what comes back.

    def send(self, request: Request) -> Answer:
        """Send any request; return its answer, unjudged. A request without an answer fails."""
        connection = self._connections[len(self.exchanges) % len(self._connections)]
        started = time.monotonic()
        self.run.requests += 1
        try:
            answer = connection.send(request)
        except TRANSPORT_ERRORS as error:
            self.exchanges.append(Exchange(request, None, explain(error), started, time.monotonic()))
            self.run.check_alive(request, explain(error))
            self.run.record("ERROR-2", "an answer", self.exchanges)
            self.fail("an answer", otherwise="ERROR-2")
        exchange = Exchange(request, answer, "", started, time.monotonic())
        self.run.durations.append(exchange.ended - started)
        self.note(exchange)
        return answer

    def note(self, exchange: Exchange) -> None:
        """Add an exchange to the scenario; whatever the scenario is about, a 5xx is recorded."""
        self.exchanges.append(exchange)
        answer = exchange.answer
        # With these, an HTTP server refuses what is not for it to understand.
        if answer is None or answer.status < 500 or answer.status in (501, 505):
            return
        self.run.record("ERROR-2", "an answer that is not a 5xx", self.exchanges, beside=True)
        if answer.status == 500 and answer.json == {"message": UNKNOWN_ERROR}:
            self.run.passed.add("ERROR-1")
        elif answer.status == 500:
            self.run.record(
                "ERROR-1",
                f'a 500, if there has to be one, is {{"message": "{UNKNOWN_ERROR}"}}',
                [exchange],
                beside=True,
            )

    def call(self, request: Request, expected: str | None = None) -> Answer:
        """Call an operation; return its answer, which is one that the contract gives to this request.

        `expected` is the message that it must be; None allows every one that the request may deserve.
        """
        answer = self.send(request)
        self.judge(self.exchanges[-1], expected)
        return answer

    def judge(self, exchange: Exchange, expected: str | None = None) -> None:
        """Hold the answer to a call against the contract."""
        assert exchange.answer is not None
        wrong, beside = judge(exchange.request, exchange.answer, expected)
        for finding in beside:
            self.run.record(finding.clause, finding.expected, [exchange], beside=True)
        if wrong is None:
            self.run.answered.add(clause_of(str(exchange.answer.message)))
            self._check_uuid(exchange)
            return
        # An answer that the server never gets right says nothing of the clause being checked.
        usual = wrong.is_another_branch or expected is None or clause_of(expected) in self.run.answered
        if usual or wrong.clause.startswith("PARAM-"):
            self.fail(wrong.expected, otherwise=wrong.clause, wrong=exchange)
        raise Violation(self.run.record(wrong.clause, wrong.expected, self.exchanges, wrong=exchange))

    def _check_uuid(self, exchange: Exchange) -> None:
        assert exchange.answer is not None
        profile = exchange.answer.profile
        uuid, order_id = str(profile.get("assigned_order_id")), str(profile.get("order_id"))
        if len(profile) > 1 and self.run.uuids.setdefault(uuid, order_id) != order_id:
            expected = f"an assigned_order_id that no other order has; {self.run.uuids[uuid]} has it"
            self.run.record("ACQUIRE-6", expected, [exchange], beside=True)

    def check(self, condition: bool, expected: str) -> None:
        """Fail the clause being checked unless the condition holds."""
        if not condition:
            self.fail(expected)

    def fail(self, expected: str, otherwise: str = "", wrong: Exchange | None = None) -> NoReturn:
        """Fail the clause being checked, or, outside of all checks, another; `wrong` is the exchange that shows it."""
        clause = self._clause or otherwise
        assert clause, f"no clause is being checked, and this failed: {expected}"
        raise Violation(self.run.record(clause, expected, self.exchanges, wrong=wrong))

    def at_once(self, *requests: Request, gap_s: float = 0.0) -> list[Answer]:
        """Send requests so that they arrive at the same time, or `gap_s` apart; return their answers in this order.

        Each answer is one that the contract gives to such a request.
        """
        self.close()
        self._groups += 1
        self.run.requests += len(requests)
        answers = []
        for exchange in self._send_at_once(requests, gap_s):
            if exchange.answer is None:
                self.run.check_alive(exchange.request, exchange.failure)
                self.run.record("ERROR-2", "an answer to each", self.exchanges)
                self.fail("an answer to each", otherwise="ERROR-2")
            if operation_of(exchange.request) is not None:
                self.judge(exchange)
            answers.append(exchange.answer)
        return answers

    def _send_at_once(self, requests: Sequence[Request], gap_s: float) -> list[Exchange]:
        if self.run.holds is None:
            self.run.holds = self._can_hold()
        try:
            exchanges = send_at_once(self.run.target, requests, gap_s, hold=self.run.holds)
        except TRANSPORT_ERRORS as error:
            self.run.check_alive(requests[0], explain(error))
            pytest.skip(f"{len(requests)} connections at once are too many: {explain(error)}")
        exchanges = [replace(exchange, group=self._groups) for exchange in exchanges]
        for exchange in exchanges:
            self.note(exchange)
        return exchanges

    def _can_hold(self) -> bool:
        """Tell whether the server accepts connections while others have not sent all of their requests.

        One that serves them one after the other does not. What is asked for is harmless: it may take a request that is
        cut off for a whole one.
        """
        target = Target(self.run.target.base_url, min(2.0, self.run.target.timeout_s))
        try:
            exchanges = send_at_once(target, [acquire_request(self.run.new_id("probe"))] * 8)
        except TRANSPORT_ERRORS:
            return False
        return all(exchange.answer is not None for exchange in exchanges)

    def send_raw(self, data: bytes, wait_s: float = 0.3) -> bytes:
        """Send bytes that need not be HTTP on a connection of their own; return what comes back, if anything."""
        request = Request("", "", raw=data)
        self.run.requests += 1
        try:
            received = send_raw(self.run.target, data, wait_s)
        except OSError as error:
            self.run.check_alive(request, explain(error))
            pytest.skip(f"no connection: {explain(error)}")
        shown = received[:300].decode(errors="backslashreplace")
        self.note(Exchange(request, parse_answer(received), f"{shown!r}" if received else "nothing"))
        return received

    def send_and_leave(self, request: Request, cut: Cut) -> None:
        """Send a request, and go away without reading its answer."""
        self.close()
        self.run.requests += 1
        try:
            send_and_leave(self.run.target, request, cut)
        except OSError as error:
            self.run.check_alive(request, explain(error))
            pytest.skip(f"no connection: {explain(error)}")
        self.exchanges.append(Exchange(request, None, f"not read: the connection was {cut}"))


def repeated(seconds: float, least: int = 3) -> Iterator[int]:
    """Yield 0, 1, … for so many seconds, but at least so many times."""
    end = time.monotonic() + seconds
    for number in range(1_000_000):
        if number >= least and time.monotonic() > end:
            return
        yield number
