"""examples/shell: a copy of the script, run as a reader runs it."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.processes import clean_environment, end_group, path_with, start
from harness.programs import require_program

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 200
ORDERS = f"{sys.executable} -m orders"

WALK = """\
The orders service is at URL.
The life of an order:
  PUT /orders/assign?order_id=order-1&executor_id=executor-1&zone_id=zone-1
    {"message": "Successfully created"} (200)
  GET /order/acquire?executor_id=executor-1
    {"message": "Successfully acquired", "order_profile": {"assigned_order_id": "UUID", "order_id": "order-1", \
"executor_id": "executor-1", "zone_id": "zone-1", "execution_status": "acquired", "assign_time": "TIME", \
"acquire_time": "TIME"}} (200)
  POST /order/cancel?order_id=order-1
    {"message": "Successfully canceled"} (200)
An assign whose answer is lost after the order was stored:
  POST /_controls/faults {"operation": "assign_order", "kind": "drop", "when": "after"}
    {"operation": "assign_order", "kind": "drop", "when": "after", "delay_ms": 0, "count": 1} (201)
  PUT /orders/assign?order_id=order-2&executor_id=executor-1&zone_id=zone-1
    no answer: curl ended with exit code 52
The same request again: the order is already registered, once.
  PUT /orders/assign?order_id=order-2&executor_id=executor-1&zone_id=zone-1
    {"message": "AssignedOrder with provided orderId already exists"} (400)
  GET /_controls/orders?order_id=order-2
    {"count": 1, "total": 1, "orders": [{"assigned_order_id": "UUID", "order_id": "order-2", \
"executor_id": "executor-1", "zone_id": "zone-1", "execution_status": "assigned", "assign_time": "TIME", \
"acquire_time": null}]} (200)
A gateway that gives up after the order was stored: as much in doubt as a lost answer.
  POST /_controls/faults {"operation": "assign_order", "kind": "error", "when": "after", "status": 504}
    {"operation": "assign_order", "kind": "error", "when": "after", "status": 504, "body": "json", "delay_ms": 0, \
"count": 1} (201)
  PUT /orders/assign?order_id=order-3&executor_id=executor-1&zone_id=zone-1
    {"message": "Gateway timeout"} (504)
  PUT /orders/assign?order_id=order-3&executor_id=executor-1&zone_id=zone-1
    {"message": "AssignedOrder with provided orderId already exists"} (400)
Too many requests: the assign was refused, and is sent again when the service wants it.
  POST /_controls/faults {"operation": "assign_order", "kind": "error", "status": 429, "retry_after": 1}
    {"operation": "assign_order", "kind": "error", "when": "before", "status": 429, "body": "json", "retry_after": 1, \
"delay_ms": 0, "count": 1} (201)
  PUT /orders/assign?order_id=order-4&executor_id=executor-1&zone_id=zone-1
    {"message": "Too many requests"} (429)
  PUT /orders/assign?order_id=order-4&executor_id=executor-1&zone_id=zone-1
    {"message": "Successfully created"} (200)
An order of somebody else: no attempt is in doubt, so this is an error.
  PUT /orders/assign?order_id=order-1&executor_id=executor-2&zone_id=zone-1
    {"message": "AssignedOrder with provided orderId already exists"} (400)
The orders service is stopped.
A refused connection: the assign was never sent.
  PUT /orders/assign?order_id=order-5&executor_id=executor-1&zone_id=zone-1
    no answer: curl ended with exit code 7
"""
# In place of the requests in the script: assigns an order while the server has a fault, and prints the result.
ASSIGN = """
start_orders
{scene}
code=0
assign order-1 executor-1 zone-1 || code=$?
echo "result $code"
"""


@dataclass(frozen=True)
class Result:
    """The exit code of a script, its output, and whether it left a process behind."""

    code: int
    output: str
    errors: str
    processes_left: bool


class Copy:
    """A copy of the example, and programs that replace others in its PATH."""

    def __init__(self, directory: Path) -> None:
        """Copy the example to a directory, where the script also has its temporary files."""
        self.curl = require_program("curl")
        self.directory = directory / "shell"
        self.programs = directory / "programs"
        self.programs.mkdir()
        shutil.copytree(ROOT / "examples" / "shell", self.directory)
        self._files = self.files()

    def files(self) -> list[Path]:
        """Return the files in the directory of the copy."""
        return sorted(self.directory.rglob("*"))

    def add_program(self, name: str, script: str) -> None:
        """Add a program that replaces the program of the same name in PATH."""
        program = self.programs / name
        program.write_text(f"#!/usr/bin/env bash\n{script}")
        program.chmod(0o755)

    def start(self, environment: Mapping[str, str]) -> subprocess.Popen[str]:
        """Start the script in a process group of its own."""
        return start(
            ["./orders.sh"],
            cwd=self.directory,
            env=clean_environment(PATH=path_with(self.programs), TMPDIR=str(self.directory), **environment),
        )

    def wait(self, process: subprocess.Popen[str]) -> Result:
        """Wait until the script ends, and check that it leaves no file behind."""
        try:
            output, errors = process.communicate(timeout=TIMEOUT_S)
        finally:
            processes_left = end_group(process.pid)
        assert self.files() == self._files, (output, errors)
        return Result(process.returncode, normalised(output), errors, processes_left)

    def assign(self, scene: str) -> Result:
        """Run the script's functions: start the server, run the commands of a scene, and assign an order."""
        script = self.directory / "orders.sh"
        original = script.read_text()
        script.write_text(original[: original.index("\nstart_orders\n")] + ASSIGN.format(scene=scene))
        # The pauses take no time.
        self.add_program("sleep", "true\n")
        try:
            return self.run(ORDERS=ORDERS)
        finally:
            script.write_text(original)

    def run(self, **environment: str) -> Result:
        """Run the script."""
        return self.wait(self.start(environment))


def normalised(output: str) -> str:
    """Return output with placeholders for the address, UUIDs and times."""
    output = re.sub(r"http://127\.0\.0\.1:\d+", "URL", output)
    output = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", output)
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "TIME", output)


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """A copy of the example."""
    return Copy(tmp_path)


def test_the_script_prints_every_request_and_response(copy: Copy) -> None:
    """The script prints each request with its response, loses one response, and leaves no process behind (D3)."""
    assert copy.run(ORDERS=ORDERS) == Result(0, WALK, "", processes_left=False)


def test_the_script_finds_orders_in_path(copy: Copy) -> None:
    """Without ORDERS, the script runs the `orders` in PATH."""
    copy.add_program("orders", f'exec {ORDERS} "$@"\n')
    assert copy.run() == Result(0, WALK, "", processes_left=False)


def test_a_proxy_in_the_environment_does_no_harm(copy: Copy) -> None:
    """The script sends its requests directly to the server, even if the environment names a proxy."""
    proxy = "http://127.0.0.1:9"
    assert copy.run(ORDERS=ORDERS, http_proxy=proxy, all_proxy=proxy) == Result(0, WALK, "", processes_left=False)


def test_the_functions_can_be_copied(copy: Copy) -> None:
    """The script's two functions work in another script, with the lines from the README."""
    script = copy.directory / "orders.sh"
    functions = re.findall(r"^(?:start|stop)_orders\(\) \{\n.*?^\}\n", script.read_text(), re.DOTALL | re.MULTILINE)
    readme = (copy.directory / "README.md").read_text()
    _, lines = re.findall(r"^```sh\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    assert len(functions) == 2
    script.write_text("#!/usr/bin/env bash\nset -euo pipefail\n" + "".join(functions) + lines)
    result = copy.run(ORDERS=ORDERS, no_proxy="*")
    assert (result.code, result.output, result.processes_left) == (
        0,
        '{"message": "There are no orders assigned to you"}',
        False,
    ), result


@pytest.mark.parametrize(
    ("fault", "result"),
    [
        ('"kind": "drop", "when": "after"', 0),
        ('"kind": "reset", "when": "after"', 0),
        ('"kind": "truncate"', 0),
        ('"kind": "error", "when": "after", "status": 502, "body": "html"', 0),
        ('"kind": "error", "when": "before", "status": 503, "body": "empty", "count": 3', 0),
        ('"kind": "error", "status": 503, "retry_after": 3600', 2),
        ('"kind": "error", "status": 429, "retry_after": 3600', 1),
        ('"kind": "error", "status": 429, "retry_after": 0, "count": 4', 1),
        ('"kind": "drop", "count": 4', 2),
    ],
)
def test_an_assign_tells_what_is_in_doubt(copy: Copy, fault: str, result: int) -> None:
    """`assign` returns 0 if the order is registered, 1 if it is not, and 2 if nobody can know."""
    body = f'{{"operation": "assign_order", {fault}}}'
    assigned = copy.assign(f"call POST /_controls/faults '{body}'")
    assert assigned.output.splitlines()[-1] == f"result {result}", assigned


def test_an_assign_that_was_never_sent_is_not_in_doubt(copy: Copy) -> None:
    """If no connection was made, *already exists* is an error, and so is a server that stays away."""
    copy.add_program("curl", f'[[ $* == *--data* ]] || exit 7\nexec {copy.curl} "$@"\n')
    assigned = copy.assign("")
    assert assigned.output.splitlines()[-1] == "result 1", assigned
    once = copy.directory.parent / "refused"
    copy.add_program(
        "curl", f'[[ $* == *--data* || -e {once} ]] || {{ touch {once}; exit 7; }}\nexec {copy.curl} "$@"\n'
    )
    order = '{"orders": [{"order_id": "order-1", "executor_id": "executor-2", "zone_id": "zone-1"}]}'
    assigned = copy.assign(f"call POST /_controls/orders '{order}'")
    assert "exit code 7" in assigned.output and "already exists" in assigned.output, assigned
    assert assigned.output.splitlines()[-1] == "result 1", assigned


def test_a_failed_request_ends_the_script(copy: Copy) -> None:
    """If curl fails, the script stops the server and ends with curl's exit code."""
    copy.add_program("curl", f'[[ $* == *acquire* ]] && exit 7\nexec {copy.curl} "$@"\n')
    result = copy.run(ORDERS=ORDERS)
    last = "  GET /order/acquire?executor_id=executor-1\n    no answer: curl ended with exit code 7\n"
    assert result == Result(7, WALK[: WALK.index("  GET")] + last, "", processes_left=False)


def test_an_unexpected_response_ends_the_script(copy: Copy) -> None:
    """After an unexpected response, the script prints the expected one and stops the server."""
    copy.add_program("curl", f'exec {copy.curl} "${{@/cancel?order_id=/cancel?order=}}"\n')
    result = copy.run(ORDERS=ORDERS)
    assert (result.code, result.errors, result.processes_left) == (
        1,
        "The answer should have been: Successfully canceled\n",
        False,
    ), result


def test_a_response_that_is_not_lost_ends_the_script(copy: Copy) -> None:
    """If the response that should be lost arrives, the script says so and stops the server."""
    copy.add_program("curl", f'exec {copy.curl} "${{@/assign_order/cancel_order}}"\n')
    result = copy.run(ORDERS=ORDERS)
    assert (result.code, result.errors, result.processes_left) == (
        1,
        "curl should have ended with exit code 52, because the answer is lost.\n",
        False,
    ), result


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_script_stops_the_server(copy: Copy, tmp_path: Path, signal_number: signal.Signals) -> None:
    """After Ctrl-C, or a SIGTERM to the script's process group, no process is left."""
    called = tmp_path / "called"
    # `curl` is one process: a shell ignores a Ctrl-C that comes while a program it waits for is ending.
    hang = f"import pathlib, time; pathlib.Path('{called}').touch(); time.sleep(60)"
    copy.add_program("curl", f'exec {sys.executable} -c "{hang}"\n')
    process = copy.start({"ORDERS": ORDERS})
    deadline = time.monotonic() + TIMEOUT_S
    while not called.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    # On a busy machine, the shell may take the first signal for one that curl has handled. Then it goes on.
    for _ in range(5):
        os.killpg(process.pid, signal_number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
            break
    result = copy.wait(process)
    assert (result.code, result.processes_left) == (1, False), result


def test_a_server_that_cannot_start_is_an_error(copy: Copy) -> None:
    """If the server cannot start, the script prints the server's error and its own, and exits with 1."""
    assert copy.run(ORDERS=ORDERS, ORDERS_WORKERS="0") == Result(
        1,
        "",
        "orders: Invalid value for environment variable ORDERS_WORKERS: '0' is not a whole number from 1 to 1024\n"
        f"The orders service did not start: {ORDERS} serve\n",
        processes_left=False,
    )


def test_a_command_that_does_not_exist_is_an_error(copy: Copy) -> None:
    """If the command in ORDERS does not exist, the script's error names it."""
    result = copy.run(ORDERS="no-such-command")
    assert (result.code, result.output, result.processes_left) == (1, "", False), result
    assert result.errors.endswith("The orders service did not start: no-such-command serve\n"), result


def test_a_server_that_is_never_ready_is_an_error(copy: Copy) -> None:
    """If the server is not ready in time, the script stops it and reports an error."""
    script = copy.directory / "orders.sh"
    script.write_text(script.read_text().replace("-t 30 ", "-t 1 "))
    copy.add_program("orders", "exec sleep 60\n")
    expected = Result(1, "", "The orders service was not ready after 30 seconds.\n", processes_left=False)
    assert copy.run() == expected
