"""The server under test, before the first test: started if there is no URL, and checked to be the orders service."""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator

from contract_tests.suite.calls import Order, acquire_request, assign_request, cancel_request
from contract_tests.suite.contract import CANCELED, CREATED, NO_ORDERS, not_active
from contract_tests.suite.run import Run, ServerLost
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
            [sys.executable, *COMMAND.split()[1:], *options],
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
    if not any(response.json is not None or any(text in response.body for text in messages) for response in responses):
        raise ServerLost(
            f"{run.target.base_url} is not the orders service: it answers none of the three operations as the "
            f"contract says; it answers GET /order/acquire with {str(responses[0])[:200]!r}"
        )
