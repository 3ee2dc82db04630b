"""What a sequence of requests relies on: the clauses that must hold for it to show what its test checks.

Each step relies on the clauses that say how it is answered, and on those that say what it changes. Both depend on the
steps before it. A failure is blamed on the clause of its test only if nothing that it relied on failed as well.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from contract_tests.suite import model
from contract_tests.suite.calls import Order
from contract_tests.suite.contract import ACQUIRE, ASSIGN, CANCEL, Operation
from contract_tests.suite.rules import CLAUSE_OF_MISSING, expected_answer, is_plain, operation_of
from contract_tests.suite.transport import Request, Step

_LOST = {ASSIGN: "RETRY-1", ACQUIRE: "RETRY-2", CANCEL: "RETRY-3"}
# The clauses that say what every answer looks like.
FORM = frozenset({"WIRE-1", "ACQUIRE-5", "ACQUIRE-6", "ACQUIRE-7", "ACQUIRE-8", "ACQUIRE-9", "CANCEL-5"})
# The clauses that decide about the lifecycle of orders.
LIFECYCLE = frozenset(
    {f"ASSIGN-{number}" for number in range(1, 8)}
    | {f"LIFE-{number}" for number in range(1, 5)}
    | {"ACQUIRE-1", "ACQUIRE-3", "ACQUIRE-4", "CANCEL-1", "CANCEL-3", "CANCEL-4"}
)
# The clauses of two operations that meet, in either order.
_MEETING = {
    ("acquire", "acquire"): ("RACE-4", "ACQUIRE-4"),
    ("acquire", "assign"): ("RACE-7", "LIFE-1"),
    ("acquire", "cancel"): ("RACE-5", "LIFE-2", "CANCEL-4"),
    ("assign", "cancel"): ("RACE-6", "LIFE-1", "LIFE-2", "LIFE-3"),
    ("cancel", "cancel"): ("RACE-3", "CANCEL-3"),
}


class Reliance(NamedTuple):
    """The clauses that a step relies on."""

    # Those that say how it is answered, from the general one to the one for just this situation.
    answer: tuple[str, ...]
    # Those that say what it changes.
    effect: tuple[str, ...] = ()
    # Those that say what an executor has after it: clause -> the executor.
    holdings: tuple[tuple[str, str], ...] = ()


def of(steps: Sequence[Step]) -> frozenset[str]:
    """Return the clauses that the last step relies on: for its answer, and for what the steps before it changed."""
    related = related_to_last(steps)
    situation = _Situation()
    reliances = [situation.follow(step) for step in related]
    executor_ids = situation.executors_of(related[-1].request)
    group = [step for step in related if step.group and step.group == related[-1].group]
    found = {*reliances[-1].answer}
    for number in {step.group for step in related} - {0}:
        found.update(_meetings([step for step in related if step.group == number]))
        # Each request has a connection of its own. ACQUIRE-1 says that an order is there over any.
        found.add("ACQUIRE-1")
    for step, reliance in zip(related, reliances, strict=True):
        # The answers before were checked when they came. Those of a group come together.
        if step in group:
            found.update(reliance.answer)
        if step in group or step is not related[-1]:
            found.update(reliance.effect)
            found |= {clause for clause, executor_id in reliance.holdings if executor_id in executor_ids}
    return frozenset(found)


def related_to_last(steps: Sequence[Step]) -> list[Step]:
    """Return the steps that name what the last step names, or what these name, and the last step.

    Steps that name nothing are related to all others.
    """
    names = [_names(step.request) for step in steps]
    last_group = steps[-1].group
    kept = {index for index, step in enumerate(steps) if step is steps[-1] or (last_group and step.group == last_group)}
    known = frozenset[str]().union(*(names[index] for index in kept))
    grows = True
    while grows:
        more = {index for index, own in enumerate(names) if not own or own & known} - kept
        kept |= more
        known = known.union(*(names[index] for index in more))
        grows = bool(more)
    return [steps[index] for index in sorted(kept)]


def _names(request: Request) -> frozenset[str]:
    """Return what a request names: the values in its query or body, and the end of each new identifier in them."""
    text = request.query + request.body.decode("latin-1") + (request.raw or b"").decode("latin-1")
    return frozenset(re.findall(r"[0-9a-f]{8}-\d+", text) + re.findall(r"=([^&=\s]+)", text))


def of_each(steps: Iterable[Step]) -> Iterator[Reliance]:
    """Yield the clauses that each of the steps relies on."""
    situation = _Situation()
    for step in steps:
        yield situation.follow(step)


class _Situation:
    """What the steps so far have led to, if the server obeys the contract."""

    def __init__(self) -> None:
        self.state = model.State()
        self.acquired: set[Order] = set()
        self.cancelled: set[Order] = set()

    def follow(self, step: Step) -> Reliance:
        """Go on with a step. Return the clauses that it relies on."""
        request = step.request
        operation = operation_of(request)
        if operation is None:
            other = tuple(_of_other_request(request))
            return Reliance(other, other)
        by_parameters = expected_answer(operation, request.query)
        special = tuple(_of_special_request(request, operation, by_parameters.values))
        if by_parameters.kind == "missing":
            empty = ["PARAM-1"] if re.search(r"(^|&)\w+=?(&|$)", request.query) else []
            clauses = dict.fromkeys([CLAUSE_OF_MISSING[operation], *empty, by_parameters.clause])
            return Reliance((*special, *clauses), ("LIFE-5", *special))
        if by_parameters.kind == "invalid":
            return Reliance((*special, "PARAM-8", by_parameters.clause), ("LIFE-5", *special))
        if by_parameters.kind == "open":
            return Reliance(special)
        expected = model.expected(self.state, request)
        assert expected is not None
        if operation is ASSIGN:
            found = self._assign(Order(**by_parameters.values))
        elif operation is ACQUIRE:
            found = self._acquire(**by_parameters.values)
        else:
            found = self._cancel(**by_parameters.values)
        self.state = expected.state
        # The next request goes over another connection.
        lost = (_LOST[operation], "RACE-1", "RACE-7", "ACQUIRE-1") if step.response is None else ()
        return Reliance((*found.answer, *special), (*found.effect, *special, *lost), found.holdings)

    def executors_of(self, request: Request) -> set[str]:
        """Return the executors on whose orders the answer to a request depends, after it."""
        operation = operation_of(request)
        values = expected_answer(operation, request.query).values if operation else {}
        known = self.state.known(values.get("order_id", ""))
        if operation is ASSIGN and known not in self.state.active:
            return set()
        return {values.get("executor_id", "")} | ({known.executor_id} if known else set())

    def _assign(self, order: Order) -> Reliance:
        known = self.state.known(order.order_id)
        if known is None:
            own = self._of(order.executor_id)
            freed = ["LIFE-2"] if own & self.cancelled else []
            busy = ["LIFE-1"] if own & self.state.active else []
            return Reliance(("ASSIGN-1", *freed, *busy), (*freed, *busy))
        ended = [] if known in self.state.active else ["ASSIGN-7"]
        effect = (*ended, "LIFE-3") if ended else ()
        # The executor who is named may have another order.
        named = (("ASSIGN-6", order.executor_id),) if ended or order.executor_id != known.executor_id else ()
        if known == order:
            return Reliance(("ASSIGN-3", *ended), (*effect, "ASSIGN-4"), named)
        return Reliance(("ASSIGN-3", *ended), effect, (("ASSIGN-5", known.executor_id), *named))

    def _acquire(self, executor_id: str) -> Reliance:
        own = self._of(executor_id)
        active = self.state.active_of(executor_id)
        freed = ["LIFE-2"] if own & self.cancelled else []
        completed = own - self.cancelled - self.state.active
        if active is None:
            return Reliance(("ACQUIRE-3", *freed, *(["LIFE-3"] if completed or len(own) > 1 else [])))
        again = ["ACQUIRE-4"] if active in self.acquired else []
        self.acquired.add(active)
        return Reliance(("ACQUIRE-1", *freed, *(["LIFE-1"] if completed else []), *again), tuple(again))

    def _cancel(self, order_id: str) -> Reliance:
        order = self.state.known(order_id)
        if order in self.state.active:
            assert order is not None
            self.cancelled.add(order)
            acquired = ["CANCEL-4"] if order in self.acquired else []
            return Reliance(("CANCEL-1", *acquired), (), (("LIFE-2", order.executor_id),))
        if order is None:
            return Reliance(("CANCEL-3",))
        completed = [] if order in self.cancelled else ["LIFE-1"]
        # The executor may have another order.
        return Reliance(("CANCEL-3", *completed), ("LIFE-3",), (("LIFE-4", order.executor_id),))

    def _of(self, executor_id: str) -> set[Order]:
        return {order for order in self.state.orders if order.executor_id == executor_id}


def _of_other_request(request: Request) -> Iterator[str]:
    """Yield the clauses of a request that calls no operation."""
    if request.raw is not None:
        yield "WIRE-5"
    elif request.path not in (ASSIGN.path, ACQUIRE.path, CANCEL.path):
        yield "WIRE-2"
    else:
        yield "WIRE-4" if (request.method, request.path) == ("HEAD", ACQUIRE.path) else "WIRE-3"


def _of_special_request(request: Request, operation: Operation, values: dict[str, str]) -> Iterator[str]:
    """Yield the clauses that say that something unusual about a request makes no difference."""
    if "+" in request.query:
        yield "PARAM-10"
    if not all(map(is_plain, values.values())):
        # Text with nothing unusual but spaces, written as `+`, is kept if PARAM-10 holds.
        spaces_alone = "+" in request.query and all(is_plain(value.partition(" ")[0]) for value in values.values())
        yield from ("PARAM-3",) if spaces_alone else ("PARAM-9", "PARAM-3")
    if not {part.partition("=")[0] for part in request.query.split("&") if part} <= set(operation.parameters):
        yield "PARAM-12"
    if request.body:
        yield "PARAM-11"
    if any(name.startswith("If-") for name, _ in request.headers):
        yield "ACQUIRE-9"


def _meetings(group: Sequence[Step]) -> Iterator[str]:
    """Yield the clauses that say how the requests of a group are answered when they meet."""
    for one, other in combinations([step.request for step in group], 2):
        names = sorted(operation.name for request in (one, other) if (operation := operation_of(request)))
        match names:
            case ["assign", "assign"]:
                yield from ("RACE-1", "ASSIGN-3") if _order_id(one) == _order_id(other) else ("RACE-2", "LIFE-1")
            case [first, second]:
                yield from _MEETING[first, second]


def _order_id(request: Request) -> str | None:
    return expected_answer(ASSIGN, request.query).values.get("order_id")
