"""Whether some order of concurrent requests, one after the other, explains their answers (D12).

The search is that of Wing and Gong, *Testing and Verifying Concurrent Objects* (1993). As Lowe proposed, it remembers
the situations that led nowhere. A request may take effect at any moment between its sending and its answer. A request
without an answer may take effect at any moment after its sending, or never.
"""

import math
from collections.abc import Sequence

from contract_tests.suite import model
from contract_tests.suite.contract import ASSIGN
from contract_tests.suite.model import State
from contract_tests.suite.transport import Step

# A history of 30 requests, 6 at a time, needs a few hundred situations.
MAX_SITUATIONS = 100_000


def is_linearizable(
    steps: Sequence[Step], start: State, end: State | None = None, limit: int = MAX_SITUATIONS
) -> bool | None:
    """Return whether some order of the steps, from the state `start`, explains all answers; None if the search gave up.

    `end` is the state that the steps must lead to. None allows every state.
    """
    ends = [math.inf if step.response is None else step.ended for step in steps]
    answered = sum(1 << index for index, step in enumerate(steps) if step.response is not None)
    seen: set[tuple[int, State]] = set()
    # Situations to continue from: the steps that are still to be placed, as bits, and the state so far.
    stack = [((1 << len(steps)) - 1, start)]
    while stack:
        left, state = stack.pop()
        if not left & answered and end in (None, state):
            return True
        if (left, state) in seen:
            continue
        if len(seen) >= limit:
            return None
        seen.add((left, state))
        indexes = [index for index in range(len(steps)) if left >> index & 1]
        first_end = min((ends[index] for index in indexes), default=math.inf)
        # A request that was sent after another's answer cannot come before it.
        possible = [index for index in indexes if steps[index].started <= first_end]
        following = [
            # A request without an answer stays left: if it took effect twice, the second would change nothing (D3, D5).
            (left & ~(1 << index & answered), after)
            for index in possible
            if (after := _state_after(state, steps[index])) is not None
            and (answered >> index & 1 or after != state)
            and (end is None or _may_become(after, end))
        ]
        # An answered step that changes nothing comes at once. To place it later would not allow more.
        unchanged = [situation for situation in following if situation[1] == state]
        stack += unchanged[:1] or following
    return False


def _may_become(state: State, end: State) -> bool:
    """Return whether a state may become another: orders stay known, and none becomes active again (D3, D5)."""
    return state.orders <= end.orders and end.active & state.orders <= state.active


def _state_after(state: State, step: Step) -> State | None:
    """Return the state after a step; None if its answer is not the one that is expected in the state before."""
    expected = model.expected(state, step.request)
    assert expected is not None, step
    if step.response is None:
        return expected.state
    if step.response.answer != expected.answer:
        return None
    if expected.order is not None:
        for name in ASSIGN.parameters:
            value = getattr(expected.order, name)
            if step.response.profile.get(name, value) != value:
                return None
    return expected.state
