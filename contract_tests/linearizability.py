"""Whether the answers to concurrent requests are those of one order of the requests, one after the other (D12).

The search is that of Wing and Gong, *Testing and Verifying Concurrent Objects* (1993), with Lowe's memory of the
situations that led nowhere. A request may have been carried out at any moment between its sending and its answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from contract_tests import model
from contract_tests.model import State
from contract_tests.service import Order
from contract_tests.transport import Exchange

# More situations than this are not looked at. A history of 30 requests, 6 at a time, needs a few hundred.
MAX_SITUATIONS = 100_000


class Outcome(StrEnum):
    """What the search found."""

    LINEARIZABLE = "linearizable"
    NOT_LINEARIZABLE = "not linearizable"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Call:
    """A request with its answer: when it was on its way, and what it means."""

    started: float
    ended: float
    # Returns the state after the call, or None if its answer is not the one that is due in the state before.
    apply: Callable[[State], State | None]


def call_of(exchange: Exchange, order: Order) -> Call:
    """Return what an exchange means: a call whose parameters are among those of an order."""
    assert exchange.answer is not None
    answer = exchange.answer

    def apply(state: State) -> State | None:
        match exchange.request.method:
            case "PUT":
                due = model.assign(state, order)
            case "GET":
                due = model.acquire(state, order.executor_id)
            case _:
                due = model.cancel(state, order.order_id)
        if due.message != answer.message:
            return None
        if due.order is not None and answer.profile.get("order_id", due.order.order_id) != due.order.order_id:
            return None
        return due.state

    return Call(exchange.started, exchange.ended, apply)


def search(calls: Sequence[Call], start: State, limit: int = MAX_SITUATIONS) -> Outcome:
    """Look for an order of the calls that explains all of their answers, from a state on."""
    everything = (1 << len(calls)) - 1
    seen: set[tuple[int, State]] = set()
    # Situations to go on from: the calls still to be placed, as bits, and the state so far.
    stack = [(everything, start)]
    while stack:
        left, state = stack.pop()
        if not left:
            return Outcome.LINEARIZABLE
        if (left, state) in seen:
            continue
        if len(seen) >= limit:
            return Outcome.UNDECIDED
        seen.add((left, state))
        open_calls = [index for index in range(len(calls)) if left >> index & 1]
        first_end = min(calls[index].ended for index in open_calls)
        for index in open_calls:
            # What was sent after another's answer cannot have come before it.
            if calls[index].started <= first_end and (after := calls[index].apply(state)) is not None:
                stack.append((left & ~(1 << index), after))
    return Outcome.NOT_LINEARIZABLE
