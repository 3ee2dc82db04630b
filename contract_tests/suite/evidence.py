"""Evidence that can be repeated: the shortest sequence of requests that shows a failure, as commands for a shell.

A sequence is shortened by trying: requests are left out, one by one, and the rest is sent again with new identifiers.
What still fails in the same way is kept.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from contract_tests.suite import model
from contract_tests.suite.contract import ACQUIRE, ASSIGN
from contract_tests.suite.reliance import related_to_last
from contract_tests.suite.rules import judge, operation_of
from contract_tests.suite.run import Failure, Run
from contract_tests.suite.transport import (
    NO_ANSWER_IN_TIME,
    TRANSPORT_ERRORS,
    Connection,
    Step,
    Target,
    explain,
    parse_response,
    send_and_leave,
    send_raw,
)

# The search for shorter sequences may take so long, for all failures together.
LIMIT_S = 15.0
# So many examples of a cause are tried until one shows again.
MAX_EXAMPLES = 5
# A pause between two requests that is at least so long may be part of the failure.
PAUSE_S = 0.5


def shorten_all(run: Run) -> None:
    """Replace the example of each cause by the shortest sequence that shows the same.

    If no example shows again, the first one says so.
    """
    end = time.monotonic() + LIMIT_S
    for cause in run.causes:
        examples = run.own_failures(cause)[:MAX_EXAMPLES]
        kept = run.failures[cause]
        for example in examples:
            shorter = shorten(run, example, end)
            if shorter is not None:
                kept.remove(example)
                kept.insert(0, shorter)
                break
        else:
            first = examples[0]
            if can_show_again(first, run.token) and time.monotonic() < end:
                once = replace(first, got=f"once, but not when the requests were sent again: {first.got}")
                kept[kept.index(first)] = once


def can_show_again(failure: Failure, token: str) -> bool:
    """Return whether the last answer alone shows a failure, so that the requests can be sent again to see it.

    A request whose answer was lost may have taken effect or not, so all steps together show the failure. To wait again
    for an answer that did not come in time would take too long.
    """
    is_late = failure.steps[-1].no_response.startswith(NO_ANSWER_IN_TIME)
    is_clear = not is_late and not any(step.group or step.cut for step in failure.steps)
    return is_clear and symptom(failure.steps, token) is not None


def shorten(run: Run, failure: Failure, end: float) -> Failure | None:
    """Return a failure with as few steps as possible; None if it does not show again, or cannot.

    `end` is when to give up, on the monotonic clock.
    """
    if not can_show_again(failure, run.token):
        return None
    shown = symptom(failure.steps, run.token)
    for keep_alive in (False, True):

        def still_fails(steps: Sequence[Step], keep_alive: bool = keep_alive) -> tuple[Step, ...] | None:
            """Return the steps as they went when they were sent again; None if they no longer show the failure."""
            if time.monotonic() > end:
                return None
            token = secrets.token_hex(len(run.token) // 2)
            renamed = [_renamed(step, run.token, token) for step in steps]
            again = send_again(run, failure.clause, renamed, keep_alive=keep_alive)
            if again is None or symptom(again, token) != shown:
                return None
            return tuple(_renamed(step, token, run.token) for step in again)

        found = shortest(failure.steps, still_fails)
        if found is not None:
            one_connection = keep_alive and len(found) > 1
            return replace(failure, steps=found, one_connection=one_connection, is_repeatable=True)
    return None


def shortest(
    steps: Sequence[Step], still_fails: Callable[[Sequence[Step]], tuple[Step, ...] | None]
) -> tuple[Step, ...] | None:
    """Return the last step with as few of the others as it needs; None if all of them together do not fail again."""
    found = still_fails(steps[-1:]) or still_fails(related_to_last(steps)) or still_fails(steps)
    length = None
    # What one step undoes can be left out only after that step.
    while found and length != len(found):
        length = len(found)
        for index in reversed(range(length - 1)):
            found = still_fails([*found[:index], *found[index + 1 :]]) or found
    return found


def symptom(steps: Sequence[Step], token: str) -> tuple[object, ...] | None:
    """Return what is wrong with the last step; None if its response shows nothing wrong.

    `token` is the part of all identifiers that differs when the steps are sent again.
    """
    last = steps[-1]
    response = last.response
    if response is None:
        return ("no answer", last.no_response)
    operation = operation_of(last.request)
    if operation is None:
        return (response.status, response.header("Allow"), response.media_type, response.message, bool(response.body))
    state = model.State()
    for step in steps[:-1]:
        before = model.expected(state, step.request)
        state = before.state if before else state
    expected = model.expected(state, last.request)
    wrong, side_findings = judge(last.request, response, expected and expected.answer)
    if wrong:
        return ("answer", response.status, response.message.replace(token, ""))
    if side_findings:
        return tuple(finding.expected.replace(token, "") for finding in side_findings)
    if operation is not ACQUIRE or expected is None or expected.order is None:
        return None
    other = {
        name: response.profile[name]
        for name in ASSIGN.parameters
        if response.profile.get(name, value := getattr(expected.order, name)) != value
    }
    if other:
        return ("profile", *other)
    for step in steps[:-1]:
        earlier = step.response
        if earlier is not None and operation_of(step.request) is ACQUIRE and earlier.profile:
            same_order = earlier.profile.get("order_id") == response.profile.get("order_id")
            same_uuid = earlier.profile.get("assigned_order_id") == response.profile.get("assigned_order_id")
            if same_order and earlier.body != response.body:
                names = earlier.profile | response.profile
                changed = [name for name in names if earlier.profile.get(name) != response.profile.get(name)]
                return ("changed", *changed)
            if same_uuid and not same_order:
                return ("the same uuid",)
    return None


def send_again(run: Run, clause: str, steps: Sequence[Step], *, keep_alive: bool) -> list[Step] | None:
    """Send the requests of steps again, with the pauses between them; None if one before the last has no answer."""
    connection = Connection(run.target, keep_alive=keep_alive)
    again: list[Step] = []
    try:
        for index, step in enumerate(steps):
            time.sleep(_pause_before(steps, index))
            started = time.monotonic()
            run.requests += 1
            response = None
            if step.request.raw is not None:
                response = parse_response(send_raw(run.target, step.request.raw, 0.3))
            elif step.cut is not None:
                send_and_leave(run.target, step.request, step.cut)
            else:
                response = run.understand(step.request, connection.send(step.request), clause)
            again.append(replace(step, response=response, started=started, ended=time.monotonic()))
    except TRANSPORT_ERRORS as error:
        if len(again) < len(steps) - 1:
            return None
        again.append(replace(steps[-1], response=None, no_response=explain(error)))
    finally:
        connection.close()
    return again


def _pause_before(steps: Sequence[Step], index: int) -> float:
    """Return the seconds between the step before and this one, if they may matter."""
    pause = steps[index].started - steps[index - 1].ended if index else 0.0
    return pause if pause >= PAUSE_S and steps[index - 1].ended else 0.0


def _renamed(step: Step, old: str, new: str) -> Step:
    """Return a step that has another token in its identifiers."""
    request, response = step.request, step.response
    return replace(
        step,
        response=response and replace(response, body=response.body.replace(old.encode(), new.encode())),
        request=replace(
            request,
            query=request.query.replace(old, new),
            headers=tuple((name, value.replace(old, new)) for name, value in request.headers),
            body=request.body.replace(old.encode(), new.encode()),
            raw=None if request.raw is None else request.raw.replace(old.encode(), new.encode()),
        ),
    )


def script(failure: Failure, target: Target, token: str) -> list[tuple[str, Step | None]]:
    """Return the commands that repeat a failure in a shell, each with the step that it sends, if it sends one.

    They make new identifiers each time that they run, in place of those with the token of the run.
    """
    commands = [(_command(step, target, token), step) for step in failure.steps]
    lines: list[tuple[str, Step | None]] = []
    if any("$run" in command for command, _ in commands):
        lines.append(("run=$(od -An -N4 -tx1 /dev/urandom | tr -d ' \\n')", None))
    if failure.one_connection and not any(step.request.body or step.request.raw for step in failure.steps):
        together = " --next ".join(command.removeprefix("curl ") for command, _ in commands)
        return [*lines, (f"curl {together}", failure.steps[-1])]
    for index, (command, step) in enumerate(commands):
        if pause := _pause_before(failure.steps, index):
            lines.append((f"sleep {pause:.1f}", None))
        lines.append((f"{command} &" if step.group else command, step))
        following = failure.steps[index + 1].group if index + 1 < len(failure.steps) else 0
        if step.group and following != step.group:
            lines.append(("wait", None))
    return lines


def _command(step: Step, target: Target, token: str) -> str:
    """Return the command that sends a step's request."""
    if step.cut is None or target.tls is not None:
        return step.request.curl(target.base_url, token)
    # The connection is closed without reading the answer.
    request = replace(step.request, raw=target.encode(step.request))
    printf, _, _ = request.curl(target.base_url, token).rpartition(" | ")
    return f"{printf} | bash -c 'cat > /dev/tcp/{target.host}/{target.port}'"
