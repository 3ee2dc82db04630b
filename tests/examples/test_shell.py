"""examples/shell: the script, run as a reader would run it, in a copy of its own."""

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

from harness.processes import end_group, path_with, start, without_orders_variables
from harness.programs import require_program

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60
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
So the same request is sent again, and finds the order registered, once:
  PUT /orders/assign?order_id=order-2&executor_id=executor-1&zone_id=zone-1
    {"message": "AssignedOrder with provided orderId already exists"} (400)
  GET /_controls/orders?order_id=order-2
    {"count": 1, "total": 1, "orders": [{"assigned_order_id": "UUID", "order_id": "order-2", \
"executor_id": "executor-1", "zone_id": "zone-1", "execution_status": "assigned", "assign_time": "TIME", \
"acquire_time": null}]} (200)
The orders service is stopped.
"""


@dataclass(frozen=True)
class Ended:
    """What a script left behind: its exit code, what it printed, and whether a process of it is left."""

    code: int
    output: str
    errors: str
    processes_left: bool


class Copy:
    """A copy of the example, and programs that take the place of others in its PATH."""

    def __init__(self, directory: Path) -> None:
        """Copy the example to a directory, in which the script has all of its files, the temporary ones too."""
        self.curl = require_program("curl")
        self.directory = directory / "shell"
        self.programs = directory / "programs"
        self.programs.mkdir()
        shutil.copytree(ROOT / "examples" / "shell", self.directory)
        self._files = self.files()

    def files(self) -> list[Path]:
        """Return the files that are there now."""
        return sorted(self.directory.rglob("*"))

    def add_program(self, name: str, script: str) -> None:
        """Put a program in front of the one that PATH has by that name."""
        program = self.programs / name
        program.write_text(f"#!/usr/bin/env bash\n{script}")
        program.chmod(0o755)

    def start(self, environment: Mapping[str, str]) -> subprocess.Popen[str]:
        """Start the script in a process group of its own."""
        path = path_with(self.programs)
        return start(
            ["./orders.sh"],
            cwd=self.directory,
            env=without_orders_variables({"PATH": path, "TMPDIR": str(self.directory), **environment}),
        )

    def end(self, process: subprocess.Popen[str]) -> Ended:
        """Wait until the script has ended; see that it has left no file."""
        try:
            output, errors = process.communicate(timeout=TIMEOUT_S)
        finally:
            processes_left = end_group(process.pid)
        assert self.files() == self._files, (output, errors)
        return Ended(process.returncode, normalised(output), errors, processes_left)

    def run(self, **environment: str) -> Ended:
        """Run the script."""
        return self.end(self.start(environment))


def normalised(output: str) -> str:
    """Return what was printed with its address, UUIDs and times made equal."""
    output = re.sub(r"http://127\.0\.0\.1:\d+", "URL", output)
    output = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", output)
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "TIME", output)


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """A copy of the example."""
    return Copy(tmp_path)


def test_the_walk_is_as_the_script_says(copy: Copy) -> None:
    """Each request is printed with its answer, the lost one too, and no process is left (D3)."""
    assert copy.run(ORDERS=ORDERS) == Ended(0, WALK, "", processes_left=False)


def test_the_command_is_found_in_path(copy: Copy) -> None:
    """Without ORDERS, the script runs the `orders` of PATH."""
    copy.add_program("orders", f'exec {ORDERS} "$@"\n')
    assert copy.run() == Ended(0, WALK, "", processes_left=False)


def test_a_proxy_in_the_environment_does_no_harm(copy: Copy) -> None:
    """The requests go to the server itself, whatever proxy the environment names."""
    proxy = "http://127.0.0.1:9"
    assert copy.run(ORDERS=ORDERS, http_proxy=proxy, all_proxy=proxy) == Ended(0, WALK, "", processes_left=False)


def test_the_functions_can_be_copied(copy: Copy) -> None:
    """The two functions, with the lines of the README below them, are a script that works."""
    script = copy.directory / "orders.sh"
    functions = re.findall(r"^(?:start|stop)_orders\(\) \{\n.*?^\}\n", script.read_text(), re.DOTALL | re.MULTILINE)
    readme = (copy.directory / "README.md").read_text()
    _, lines = re.findall(r"^```sh\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    assert len(functions) == 2
    script.write_text("#!/usr/bin/env bash\nset -euo pipefail\n" + "".join(functions) + lines)
    ended = copy.run(ORDERS=ORDERS, no_proxy="*")
    assert (ended.code, ended.output, ended.processes_left) == (
        0,
        '{"message": "There are no orders assigned to you"}',
        False,
    ), ended


def test_a_request_that_fails_ends_the_walk(copy: Copy) -> None:
    """If curl fails in the middle, the script ends with its exit code, and the server is stopped."""
    copy.add_program("curl", f'[[ $* == *acquire* ]] && exit 7\nexec {copy.curl} "$@"\n')
    ended = copy.run(ORDERS=ORDERS)
    last = "  GET /order/acquire?executor_id=executor-1\n    no answer: curl ended with exit code 7\n"
    assert ended == Ended(7, WALK[: WALK.index("  GET")] + last, "", processes_left=False)


def test_an_unexpected_answer_ends_the_walk(copy: Copy) -> None:
    """If an answer is not the expected one, the script says which it expected, and the server is stopped."""
    copy.add_program("curl", f'exec {copy.curl} "${{@/cancel?order_id=/cancel?order=}}"\n')
    ended = copy.run(ORDERS=ORDERS)
    assert (ended.code, ended.errors, ended.processes_left) == (
        1,
        "The answer should have been: Successfully canceled\n",
        False,
    ), ended


def test_an_answer_that_is_not_lost_ends_the_walk(copy: Copy) -> None:
    """If the answer that should be lost arrives, the script says so, and the server is stopped."""
    copy.add_program("curl", f'exec {copy.curl} "${{@/assign_order/cancel_order}}"\n')
    ended = copy.run(ORDERS=ORDERS)
    assert (ended.code, ended.errors, ended.processes_left) == (
        1,
        "curl should have ended with exit code 52: nothing came back.\n",
        False,
    ), ended


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_walk_stops_the_server(copy: Copy, tmp_path: Path, signal_number: signal.Signals) -> None:
    """Ctrl-C, or a SIGTERM to all of the script's processes, leaves nothing behind."""
    called = tmp_path / "called"
    # One process does it all: a shell would pass over a Ctrl-C that comes while it waits for a program that is ending.
    hang = f"import pathlib, time; pathlib.Path('{called}').touch(); time.sleep(60)"
    copy.add_program("curl", f'exec {sys.executable} -c "{hang}"\n')
    process = copy.start({"ORDERS": ORDERS})
    deadline = time.monotonic() + TIMEOUT_S
    while not called.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal_number)
    ended = copy.end(process)
    assert (ended.code, ended.processes_left) == (1, False), ended


def test_a_server_that_cannot_start_is_an_error(copy: Copy) -> None:
    """The server's own words are shown, then the script's, and the exit code is 1."""
    assert copy.run(ORDERS=ORDERS, ORDERS_WORKERS="0") == Ended(
        1,
        "",
        "orders: Invalid value for environment variable ORDERS_WORKERS: '0' is not a whole number from 1 to 1024\n"
        f"The orders service did not start: {ORDERS} serve\n",
        processes_left=False,
    )


def test_a_command_that_does_not_exist_is_an_error(copy: Copy) -> None:
    """If there is no such command, the error names it."""
    ended = copy.run(ORDERS="no-such-command")
    assert (ended.code, ended.output, ended.processes_left) == (1, "", False), ended
    assert ended.errors.endswith("The orders service did not start: no-such-command serve\n"), ended


def test_a_server_that_is_never_ready_is_an_error(copy: Copy) -> None:
    """The wait for readiness has an end, and what was started is stopped."""
    script = copy.directory / "orders.sh"
    script.write_text(script.read_text().replace("-t 30 ", "-t 1 "))
    copy.add_program("orders", "exec sleep 60\n")
    expected = Ended(1, "", "The orders service was not ready after 30 seconds.\n", processes_left=False)
    assert copy.run() == expected
