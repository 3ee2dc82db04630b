"""Whether some order of concurrent requests, one after the other, explains their answers (D12).

The search is that of Wing and Gong, *Testing and Verifying Concurrent Objects* (1993). As Lowe proposed, it remembers
the situations that led nowhere. A request may take effect at any moment between its sending and its answer.
"""

from collections.abc import Sequence

from contract_tests.suite import model
from contract_tests.suite.model import State
from contract_tests.suite.transport import Step

# A history of 30 requests, 6 at a time, needs a few hundred situations.
MAX_SITUATIONS = 100_000


def is_linearizable(steps: Sequence[Step], start: State, limit: int = MAX_SITUATIONS) -> bool | None:
    """Tell whether an order of the steps explains all their answers, from a state on; None if the search gave up."""
    seen: set[tuple[int, State]] = set()
    # Situations to continue from: the steps that are still to be placed, as bits, and the state so far.
    stack = [((1 << len(steps)) - 1, start)]
    while stack:
        left, state = stack.pop()
        if not left:
            return True
        if (left, state) in seen:
            continue
        if len(seen) >= limit:
            return None
        seen.add((left, state))
        indexes = [index for index in range(len(steps)) if left >> index & 1]
        first_end = min(steps[index].ended for index in indexes)
        for index in indexes:
            # A request that was sent after another's answer cannot come before it.
            if steps[index].started <= first_end and (after := _state_after(state, steps[index])) is not None:
                stack.append((left & ~(1 << index), after))
    return False


def _state_after(state: State, step: Step) -> State | None:
    """Return the state after a step; None if its answer is not the one that is expected in the state before."""
    expected = model.expected(state, step.request)
    assert expected is not None and step.response is not None, step
    if step.response.answer != expected.answer:
        return None
    if expected.order is not None:
        order_id = expected.order.order_id
        if step.response.profile.get("order_id", order_id) != order_id:
            return None
    return expected.state
