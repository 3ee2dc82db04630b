"""A run of the suite: what it is aimed at, what it found, and the verdict on each clause."""

import itertools
import random
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from contract_tests.clauses import CLAUSES, Clause, Level
from contract_tests.transport import TRANSPORT_ERRORS, Connection, Exchange, Request, Target, explain

# After so many requests without an answer, the server is given up.
MAX_UNANSWERED = 3


class Verdict(StrEnum):
    """What a run says of a clause."""

    PASS = "pass"
    FAIL = "fail"
    NOT_CHECKED = "not checked"
    ERROR = "error"


class ExitCode:
    """What the suite exits with. 2, 4 and 5 are those of pytest."""

    CONFORMS = 0
    FAILED = 1
    INTERRUPTED = 2
    ERROR = 3
    USAGE = 4
    NOTHING_SELECTED = 5


@dataclass(frozen=True)
class Budget:
    """How much of everything that is random a run does, and when it is given up."""

    name: str
    # Examples that Schemathesis generates for an operation, beside its fixed ones.
    examples: int
    # Seconds for each of the parts that go on as long as they may.
    workflows_s: float
    lifecycle_s: float
    race_s: float
    histories_s: float
    retries_s: float
    # Seconds after which a run against a slow or stuck server ends with an error.
    limit_s: float


BUDGETS = {
    budget.name: budget
    for budget in (
        Budget("brief", 10, 0.5, 0.5, 0.1, 0.5, 0.05, 600.0),
        Budget("quick", 30, 3.0, 4.0, 0.5, 3.0, 0.2, 600.0),
        Budget("thorough", 300, 30.0, 50.0, 6.0, 40.0, 2.0, 1800.0),
    )
}


@dataclass(frozen=True)
class Failure:
    """A clause seen broken: in which test, what was expected, and the exchanges that show it."""

    clause: str
    expected: str
    exchanges: tuple[Exchange, ...]
    test: str
    # The exchange that is wrong; None if it takes the last one, with all that were on their way with it.
    wrong: Exchange | None = None

    @property
    def got(self) -> str:
        """What came back instead, in words."""
        last = self.exchanges[-1]
        together = [exchange for exchange in self.exchanges if exchange.group == last.group and last.group]
        shown = [self.wrong] if self.wrong else together or [last]
        return "; ".join(dict.fromkeys(exchange.outcome for exchange in shown))


class Violation(AssertionError):
    """An answer that breaks a clause; recorded in the run already."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.clause}: expected {failure.expected}; got {failure.got}")
        self.failure = failure


class ServerLost(BaseException):
    """The server cannot be reached or does not answer any more: there is no point in going on.

    Not an `Exception`, so that nothing that looks for failing examples takes it for one.
    """


@dataclass
class Run:
    """One run of the suite against one server."""

    target: Target
    budget: Budget
    level: Level
    seed: int
    # The clauses that were asked for; empty for all.
    wanted: frozenset[str] = frozenset()
    token: str = field(default_factory=lambda: secrets.token_hex(4))
    failures: dict[str, list[Failure]] = field(default_factory=dict)
    passed: set[str] = field(default_factory=set)
    # Of clauses that a check was started for but not finished: why.
    blocked: dict[str, str] = field(default_factory=dict)
    # Of clauses during whose check the suite itself failed: how.
    broken: dict[str, str] = field(default_factory=dict)
    # What went wrong with the run as a whole.
    errors: list[str] = field(default_factory=list)
    # The clauses of those answers that the server has given rightly at least once.
    answered: set[str] = field(default_factory=set)
    # What the first test left for the last one.
    keepsakes: list[Any] = field(default_factory=list)
    # Of each `assigned_order_id` that was seen, its order.
    uuids: dict[str, str] = field(default_factory=dict)
    # Whether the server can be made to wait for the end of several requests at once; None until it is known.
    holds: bool | None = None
    requests: int = 0
    # Seconds that answers took.
    durations: list[float] = field(default_factory=list)
    # The test that is running, and the clauses that it says it checks.
    test: str = ""
    clauses: frozenset[str] = frozenset()
    started: float = field(default_factory=time.monotonic)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _unanswered: int = 0

    def new_id(self, kind: str) -> str:
        """Return an identifier that nobody has used before, neither in this run nor in another."""
        return f"{kind}-{self.token}-{next(self._numbers)}"

    def random(self, purpose: str) -> random.Random:
        """Return a random generator that the seed and the purpose decide."""
        return random.Random(f"{self.seed} {purpose}")

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.started

    def record(
        self,
        clause: str,
        expected: str,
        exchanges: Iterable[Exchange],
        *,
        beside: bool = False,
        wrong: Exchange | None = None,
    ) -> Failure:
        """Note that a clause was seen broken; of the failures in one test the shortest is kept.

        Of what is found `beside`, in tests that are about something else, the shortest of all is.
        """
        failure = Failure(clause, expected, tuple(exchanges), self.test, wrong)
        kept = self.failures.setdefault(clause, [])
        like = [old for old in kept if old.test == failure.test or (beside and old.expected == expected)]
        if not like:
            kept.append(failure)
        elif len(failure.exchanges) < len(like[0].exchanges):
            kept[kept.index(like[0])] = failure
        return failure

    def check_alive(self, request: Request, reason: str) -> None:
        """After a request without an answer, for some reason, see whether the server still answers others.

        Raises ServerLost if it does not, or if too many requests went unanswered.
        """
        what = f"{reason} to {request.method} {request.target[:200]}"
        self._unanswered += 1
        if self._unanswered > MAX_UNANSWERED:
            raise ServerLost(f"the server left {self._unanswered} requests without an answer that can be read: {what}")
        for attempt in range(3):
            time.sleep(attempt * 0.5)
            if self.probe() is None:
                return
        raise ServerLost(f"the server stopped answering: {what}; and since then nothing else")

    def probe(self) -> str | None:
        """Ask the server for something harmless; return None if it answered in HTTP, else why it did not."""
        target = Target(self.target.base_url, min(5.0, self.target.timeout_s))
        connection = Connection(target, kept=False)
        try:
            connection.send(Request("GET", "/order/acquire", f"executor_id={self.new_id('probe')}"))
        except TRANSPORT_ERRORS as error:
            return explain(error)
        finally:
            connection.close()
        return None

    def verdict(self, clause: Clause) -> Verdict:
        """Return the verdict on a clause so far."""
        if clause.id in self.failures:
            return Verdict.FAIL
        if clause.id in self.broken:
            return Verdict.ERROR
        if clause.id in self.passed and clause.id not in self.blocked:
            return Verdict.PASS
        return Verdict.NOT_CHECKED

    def reason(self, clause: Clause) -> str:
        """Return why a clause was not checked, or what went wrong with its check."""
        known = self.broken.get(clause.id) or self.blocked.get(clause.id)
        if known or self.verdict(clause) is not Verdict.NOT_CHECKED:
            return known or ""
        if self.wanted and clause.id not in self.wanted:
            return "not asked for"
        return "the server gave no occasion" if clause.conditional else "its tests were not run"

    def decides(self, clause: Clause) -> bool:
        """Tell whether a failure of the clause fails the run."""
        asked_for = not self.wanted or clause.id in self.wanted
        return asked_for and (clause.level is Level.MUST or self.level is Level.SHOULD)

    def exit_code(self) -> int:
        """Return the exit code: a failure that counts is certain, whatever else went wrong."""
        if any(self.decides(CLAUSES[clause_id]) for clause_id in self.failures):
            return ExitCode.FAILED
        # A check that was begun and not finished leaves the verdict open; unless a failure that does not decide is the
        # reason, and another check of the clause was finished.
        explained = self.passed if self.failures else set()
        unfinished = any(self.decides(CLAUSES[clause_id]) for clause_id in self.blocked.keys() - explained)
        return ExitCode.ERROR if self.errors or self.broken or unfinished else ExitCode.CONFORMS
