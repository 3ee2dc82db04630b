"""The server under test, before the first test.

It is started if there is no URL, checked to be the orders service, and asked once for each of its answers.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator

from contract_tests.suite.calls import Order, acquire_request, assign_request, cancel_request, request_to
from contract_tests.suite.contract import (
    ACQUIRED,
    ALREADY_EXISTS,
    CANCELED,
    CREATED,
    MISSING,
    NO_ORDERS,
    OPERATIONS,
    Answer,
    not_active,
)
from contract_tests.suite.rules import operation_of
from contract_tests.suite.run import ID, Run, ServerLost
from contract_tests.suite.transport import TRANSPORT_ERRORS, Connection, explain

COMMAND = "python -m orders serve"
START_TIMEOUT_S = 30


@contextlib.contextmanager
def reference_server() -> Iterator[str]:
    """Run the reference implementation on a free port, with a database of its own; yield its URL.

    Raises ServerLost, with the last line of its standard error, if it does not start.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", "0", "--no-access-log", "--database", f"sqlite:///{folder}/orders.db"]
        process = subprocess.Popen(
            # -P: a folder `orders` in the current directory is another program.
            [sys.executable, "-P", *COMMAND.split()[1:], *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("ORDERS_")},
        )
        assert process.stdout is not None and process.stderr is not None
        killer = threading.Timer(START_TIMEOUT_S, process.kill)
        killer.start()
        try:
            line = process.stdout.readline()
            killer.cancel()
            if not line.startswith("orders listening on "):
                process.kill()
                reason = (process.stderr.read().strip().splitlines() or ["it says nothing"])[-1]
                raise ServerLost(f"`{COMMAND}` does not start: {reason}")
            # Nobody reads the log. The server drops what does not fit into the pipe.
            yield line.split()[-1]
        finally:
            killer.cancel()
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
            process.stderr.close()


def check_is_the_service(run: Run) -> None:
    """Call each operation once. Raises ServerLost if nothing answers, or nothing that could be the orders service."""
    order = Order(run.new_id("order"), run.new_id("executor"), run.new_id("zone"))
    connection = Connection(run.target)
    responses, reason = [], ""
    for request in (acquire_request(order.executor_id), assign_request(order), cancel_request(order.order_id)):
        try:
            responses.append(connection.send(request))
        except TRANSPORT_ERRORS as error:
            reason = explain(error)
    connection.close()
    if not responses:
        raise ServerLost(f"no service at {run.target.base_url}: {reason}")
    # A JSON object, or one of the messages in any form, is enough. The tests say what is wrong with it.
    messages = [answer.message.encode() for answer in (CREATED, NO_ORDERS, CANCELED, not_active(order.order_id))]
    is_json = any(response.json is not None for response in responses)
    has_message = any(text in response.body for text in messages for response in responses)
    # Other services whose API is JSON refuse all three paths. So does the orders service at another path.
    is_refused = all(response.status in (404, 405) for response in responses)
    if is_refused or not (is_json or has_message):
        raise ServerLost(
            f"{run.target.base_url} is not the orders service: it answers none of the three operations as the "
            f"contract says; it answers GET /order/acquire with {str(responses[0])[:200]!r}"
        )


def learn_wording(run: Run) -> None:
    """Learn which answers the server always gives in other words than the contract's.

    The clauses that say the words fail. All other clauses can be checked nevertheless.
    """
    try:
        first, second = _answers(run), _answers(run)
    except TRANSPORT_ERRORS:
        return
    for name in {name for name, _ in first}:
        given = {answer: words for (operation, answer), words in first.items() if operation == name}
        for answer, words in given.items():
            is_always_said = second[name, answer] == words
            stands_for_others = words in given or list(given.values()).count(words) > 1
            if words != answer and is_always_said and not stands_for_others and words[0] < 500:
                run.wording.setdefault(name, {})[words] = answer


def _answers(run: Run) -> dict[tuple[str, Answer], tuple[int, str]]:
    """Return what the server says in place of each answer of an operation, with `ID` in place of the order's id."""
    order, other = (Order(*(run.new_id(kind) for kind in ("order", "executor", "zone"))) for _ in range(2))
    unknown = run.new_id("order")
    calls = [(request_to(operation), MISSING[operation]) for operation in OPERATIONS]
    calls += [
        (acquire_request(order.executor_id), NO_ORDERS),
        (assign_request(order), CREATED),
        (assign_request(order), ALREADY_EXISTS),
        (acquire_request(order.executor_id), ACQUIRED),
        (assign_request(other), CREATED),
        (cancel_request(other.order_id), CANCELED),
        (cancel_request(unknown), not_active(ID)),
    ]
    connection = Connection(run.target)
    found = {}
    try:
        for request, answer in calls:
            operation = operation_of(request)
            assert operation is not None
            status, message = connection.send(request).answer
            found[operation.name, answer] = status, message.replace(unknown, ID)
    finally:
        connection.close()
    return found
