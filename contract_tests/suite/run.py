"""A run of the suite: its server, what it found, and the verdict on each clause."""

import itertools
import random
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import ClassVar

from contract_tests.clauses import CLAUSES, Clause, Level
from contract_tests.suite import blame
from contract_tests.suite.calls import acquire_request
from contract_tests.suite.contract import Answer, not_active
from contract_tests.suite.rules import expected_answer, is_not_active, operation_of, says_the_words
from contract_tests.suite.transport import (
    NO_ANSWER_IN_TIME,
    TRANSPORT_ERRORS,
    Connection,
    Request,
    Response,
    Step,
    Target,
)

# Reasons why a clause was not checked.
NOT_SELECTED = "not selected"
DID_NOT_RUN = "its tests did not run"
# Stands for the identifier in a message.
ID = "\0"
# The order of causes: the clauses as they are listed, but those that any request can break come last.
RANK = sorted(CLAUSES, key=lambda clause: CLAUSES[clause].general)
# After more requests without an answer than this, the run ends: if the suite waited for them, or if it did not.
MAX_UNANSWERED = 3
MAX_CUT_OFF = 300


class Verdict(StrEnum):
    """What a run says about a clause."""

    PASS = "pass"
    FAIL = "fail"
    NOT_CHECKED = "not checked"
    ERROR = "error"


class ExitCode:
    """The suite's exit codes. 2, 4 and 5 are pytest's own."""

    CONFORMS = 0
    FAILED = 1
    INTERRUPTED = 2
    ERROR = 3
    USAGE = 4
    NOTHING_SELECTED = 5


@dataclass(frozen=True)
class Budget:
    """How much a run does of all that is random, and when it gives up."""

    name: str
    # Examples that Schemathesis generates for each operation, in addition to its fixed ones.
    examples: int
    # Seconds for each part that can go on for any time.
    workflows_s: float
    lifecycle_s: float
    race_s: float
    histories_s: float
    retries_s: float
    # Seconds after which a run ends with an error, because the server is slow or stuck.
    limit_s: float


BUDGETS = {
    budget.name: budget
    for budget in (
        Budget("brief", 10, workflows_s=0.5, lifecycle_s=0.5, race_s=0.1, histories_s=0.5, retries_s=0.05, limit_s=600),
        Budget("quick", 30, workflows_s=3, lifecycle_s=4, race_s=0.5, histories_s=3, retries_s=0.2, limit_s=600),
        Budget("thorough", 300, workflows_s=30, lifecycle_s=50, race_s=6, histories_s=40, retries_s=2, limit_s=1800),
    )
}


@dataclass(frozen=True)
class Failure:
    """An observation that breaks a clause: the test, what was expected, and the steps that show it."""

    clause: str
    expected: str
    # The last step is wrong, together with its group.
    steps: tuple[Step, ...]
    test: str
    # What came back instead, in words.
    got: str
    # The clauses that it relied on. If one of them failed too, this failure shows nothing of its own.
    relies: frozenset[str] = frozenset()
    # It shows only if all steps go over one connection.
    one_connection: bool = False
    # The steps were sent again, and showed it again.
    is_repeatable: bool = False

    @property
    def odd_answer(self) -> tuple[object, ...] | None:
        """What is odd about the last answer: a status that the operation does not have, or other keys; else None.

        5xx is a matter of ERROR-2.
        """
        request, response = self.steps[-1].request, self.steps[-1].response
        operation = operation_of(request)
        if operation is None or response is None or 500 <= response.status < 600:
            return None
        if response.status not in operation.regular_statuses:
            return operation.name, response.status, response.message
        # Servers write the answers of one kind in one place, for example all refusals as {"detail": …}.
        keys = frozenset(response.json or ())
        return None if not keys or keys in ({"message"}, {"message", "order_profile"}) else (response.status, keys)

    @property
    def effort(self) -> tuple[bool, int, int]:
        """How hard it is to follow: whether it may not show again, its number of steps, and the length of these."""
        requests = [step.request for step in self.steps]
        return not self.is_repeatable, len(requests), sum(len(request.query + request.path) for request in requests)


class Violation(AssertionError):
    """A clause is broken, and the test cannot go on. The run has recorded the failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.clause}: expected {failure.expected}; got {failure.got}")
        self.failure = failure


class ServerLost(BaseException):
    """The server cannot be reached or no longer answers, so the run cannot go on.

    It is no `Exception`, so that Hypothesis and Schemathesis do not take it for a failing example.
    """


@dataclass
class Run:
    """One run of the suite against one server."""

    # The run of this process. Schemathesis needs its seed while pytest collects the tests, when no fixture is there.
    current: ClassVar["Run"]

    target: Target
    budget: Budget
    level: Level
    seed: int
    # The clauses that the user selected; empty for all.
    selected: frozenset[str] = frozenset()
    # Part of every identifier of this run.
    token: str = field(default_factory=lambda: secrets.token_hex(4))
    # The test that is running, and the clauses that it checks.
    test: str = ""
    clauses: frozenset[str] = frozenset()

    # Clause id -> the failures that break it.
    failures: dict[str, list[Failure]] = field(default_factory=dict)
    # Clauses that a test has checked to its end.
    passed: set[str] = field(default_factory=set)
    # Clause id -> the clause that failed in a test of it, before it was checked.
    stopped_by: dict[str, str] = field(default_factory=dict)
    # Clause id -> why a check of it did not finish, although nothing failed.
    unfinished: dict[str, str] = field(default_factory=dict)
    # Clause id -> how a check of it failed by itself, through no fault of the server.
    broken_checks: dict[str, str] = field(default_factory=dict)
    # What went wrong with the run as a whole.
    errors: list[str] = field(default_factory=list)

    # Operation name -> the answers that the server always gives in other words -> what they stand for.
    wording: dict[str, dict[tuple[int, str], Answer]] = field(default_factory=dict)
    # assigned_order_id -> order_id, for each that the server has sent.
    uuids: dict[str, str] = field(default_factory=dict)
    # Whether the server waits for the last bytes of several requests at once; None until it is known.
    can_hold: bool | None = None
    # Whether the run has sent bytes that are not HTTP.
    sent_raw: bool = False
    requests: int = 0
    # Seconds per request.
    durations: list[float] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _unanswered: int = 0
    _waited_for: int = 0

    def new_id(self, kind: str) -> str:
        """Return an identifier that nobody has used before, in this run or in another."""
        return f"{kind}-{self.token}-{next(self._numbers)}"

    def random(self, purpose: str) -> random.Random:
        """Return a random generator for a purpose. The seed of the run and the purpose decide what it generates."""
        return random.Random(f"{self.seed} {purpose}")

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.started

    def record(self, failure: Failure, *, is_side: bool = False) -> Failure:
        """Record a failure. Of all failures of a clause in one test, keep the one with the fewest steps.

        Side findings are the same in many tests. Of those, keep one per clause and expectation: the first, unless
        another has fewer steps and relied on the same.
        """
        kept = self.failures.setdefault(failure.clause, [])
        for index, old in enumerate(kept):
            if old.test == failure.test or (is_side and old.expected == failure.expected):
                if len(failure.steps) < len(old.steps) and (not is_side or failure.relies == old.relies):
                    kept[index] = failure
                return failure
        kept.append(failure)
        return failure

    def understand(self, request: Request, response: Response, clause: str | None) -> Response:
        """Return a response that means what the contract has other words for, unless `clause` says these words.

        Without this, a server with one misspelled message would fail every test in which the message occurs.
        """
        operation = operation_of(request)
        if operation is None:
            return response
        order_id = expected_answer(operation, request.query).values.get("order_id", "")
        if order_id and is_not_active(response):
            # Whether the id in the message is right is CANCEL-5's matter.
            return replace(response, means=not_active(order_id))
        for (status, message), answer in self.wording.get(operation.name, {}).items():
            means = Answer(answer.status, answer.message.replace(ID, order_id))
            if response.answer == (status, message.replace(ID, order_id)):
                return (
                    response if clause and says_the_words(clause, operation, means) else replace(response, means=means)
                )
        return response

    def own_failures(self, cause: str) -> list[Failure]:
        """Return the failures of a cause that no other cause explains, the best example first."""
        others = self.causes.keys() - {cause}
        own = [failure for failure in self.failures[cause] if not failure.relies & others]
        return sorted(own or self.failures[cause], key=lambda failure: failure.effort)

    def check_alive(self, request: Request, reason: str) -> None:
        """After a request without an answer, check that the server still answers others.

        Raises ServerLost if it does not, or if too many requests had no answer.
        """
        what = f"{reason} to {request.method} {request.path_and_query[:200]}"
        self._unanswered += 1
        self._waited_for += reason.startswith(NO_ANSWER_IN_TIME)
        if self._unanswered > MAX_CUT_OFF or self._waited_for > MAX_UNANSWERED:
            raise ServerLost(f"the server gave no readable answer to {self._unanswered} requests; the last: {what}")
        for attempt in range(3):
            time.sleep(attempt * 0.5)
            if self._answers():
                return
        raise ServerLost(f"the server stopped answering: {what}; nothing else is answered since then")

    def _answers(self) -> bool:
        """Return whether the server answers a harmless request."""
        connection = Connection(Target(self.target.base_url, min(5.0, self.target.timeout_s)), keep_alive=False)
        try:
            connection.send(acquire_request(self.new_id("probe")))
        except TRANSPORT_ERRORS:
            return False
        finally:
            connection.close()
        return True

    @property
    def causes(self) -> dict[str, list[str]]:
        """The failed clauses that are causes, each with the other clauses in which it is seen.

        The first one is to be mended first. Those that do not decide about the run come last.
        """
        found = blame.causes(self.failures, RANK)
        # A clause that binds less explains none that binds more.
        levels = list(Level)
        binding = sorted(found, key=lambda cause: levels.index(CLAUSES[cause].level))
        found = blame.merged({cause: found[cause] for cause in binding}, self.failures)
        order = sorted(found, key=lambda cause: (not self.decides(CLAUSES[cause]), RANK.index(cause)))
        return {cause: sorted(found[cause], key=RANK.index) for cause in order}

    def verdict(self, clause: Clause) -> Verdict:
        """Return the verdict on a clause so far."""
        if clause.id in self.causes:
            return Verdict.FAIL
        if clause.id in self.broken_checks:
            return Verdict.ERROR
        if clause.id in self.passed and clause.id not in self.unfinished:
            return Verdict.PASS
        return Verdict.NOT_CHECKED

    def reason(self, clause: Clause) -> str:
        """Return why a clause was not checked, or only in part, or how its check failed by itself; else empty."""
        verdict = self.verdict(clause)
        if verdict is Verdict.FAIL:
            return ""
        if verdict is Verdict.ERROR:
            return self.broken_checks[clause.id]
        causes = [cause for cause, others in self.causes.items() if clause.id in others]
        if causes or clause.id in self.stopped_by:
            cause = causes[0] if causes else self.cause_of(self.stopped_by[clause.id])
            return f"in part: the rest needs {cause}" if verdict is Verdict.PASS else f"{cause} failed first"
        if verdict is Verdict.PASS:
            return ""
        if clause.id in self.unfinished:
            return self.unfinished[clause.id]
        if self.selected and clause.id not in self.selected:
            return NOT_SELECTED
        return "the server gave no occasion" if clause.conditional else DID_NOT_RUN

    def cause_of(self, failed: str) -> str:
        """Return the cause of a clause's failures: the clause itself, or another one."""
        return next((cause for cause, others in self.causes.items() if failed in others), failed)

    def decides(self, clause: Clause, level: Level | None = None) -> bool:
        """Return whether the verdict on a clause decides about the run at a level, by default the level of the run."""
        is_selected = not self.selected or clause.id in self.selected
        return is_selected and (level or self.level).includes(clause.level)

    def exit_code(self, level: Level | None = None) -> int:
        """Return the exit code at a level, by default the level of the run.

        A failure that decides is certain, whatever else went wrong.
        """
        if any(self.decides(CLAUSES[cause], level) for cause in self.causes):
            return ExitCode.FAILED
        return ExitCode.ERROR if self.errors or self.broken_checks or self.undecided(level) else ExitCode.CONFORMS

    def undecided(self, level: Level | None = None) -> list[Clause]:
        """Return the clauses that leave the verdict open: they decide, and something kept them from being checked."""
        begun = self.failures.keys() | self.stopped_by.keys() | self.unfinished.keys()
        return [
            clause
            for clause in CLAUSES.values()
            if clause.id in begun and self.decides(clause, level) and self.verdict(clause) is Verdict.NOT_CHECKED
        ]
