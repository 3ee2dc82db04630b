"""The README's commands, run in a fresh clone, as a reader runs them."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.clone import ROOT, make_clone
from harness.processes import clean_environment, end_group, run, start
from harness.programs import require_program

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Return the README's code blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def normalised(output: str) -> str:
    """Return output with placeholders for UUIDs and times."""
    output = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", output)
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "TIME", output)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone."""
    clone = tmp_path_factory.mktemp("readme") / "clone"
    make_clone(clone)
    return clone


@contextmanager
def serving(command: str, clone: Path) -> Iterator[str]:
    """Run a command of the README that starts a server, while the block runs; yield the server's URL."""
    server = start(["sh", "-c", command], cwd=clone, env=clean_environment(ORDERS_PORT="0"), stderr=None)
    try:
        assert server.stdout
        ready = next((line for line in server.stdout if line.startswith("orders listening on ")), "")
        assert ready, f"the server did not start: {command}"
        yield ready.split()[-1]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)
        end_group(server.pid)
        if server.stdout:
            server.stdout.close()


def check_calls(console: str, url: str) -> None:
    """Run the curl commands of a console block, and compare their output with the README's."""
    calls = re.findall(r"^\$ (curl .*)\n(.*)$", console, re.MULTILINE)
    assert len(calls) == 3
    require_program("curl")
    for command, output in calls:
        arguments = [*shlex.split(command.replace("http://127.0.0.1:8080", url)), "--silent", "--show-error"]
        ended = subprocess.run(arguments, capture_output=True, text=True, timeout=20)
        assert normalised(ended.stdout + ended.stderr.strip()) == normalised(output), command


@pytest.mark.timeout(600)
def test_the_first_command_starts_the_server(clone: Path) -> None:
    """The README's first command starts the server, and its curl commands print what the README shows."""
    with serving(blocks("sh")[0], clone) as url:
        check_calls(blocks("console")[0], url)
    assert (clone / "orders.db").exists()


@pytest.mark.timeout(600)
def test_the_second_command_runs_the_contract_suite(clone: Path) -> None:
    """The README's second command installs the contract suite and runs it against the server."""
    with serving(blocks("sh")[0], clone) as url:
        # One clause is enough here. tests/contract_suite checks all of them on this server.
        command = blocks("sh")[1].rstrip().replace("http://127.0.0.1:8080", url) + " --clause ASSIGN-1"
        ended = run(["sh", "-c", command], timeout_s=600, cwd=clone, env=clean_environment())
    assert ended.returncode == 0, ended.stdout + ended.stderr
    report = json.loads((clone / "contract-report" / "report.json").read_text())
    verdicts = {clause["id"]: clause["verdict"] for clause in report["clauses"]}
    assert (report["url"], report["level"]) == (url, "should") and verdicts["ASSIGN-1"] == "pass", ended.stdout


@pytest.mark.timeout(600)
def test_the_controls_lose_a_response(clone: Path) -> None:
    """The README's commands for the test controls lose a response, and the repeated request is refused."""
    (command,) = [block for block in blocks("sh") if "--controls" in block]
    if not (clone / ".venv").exists():
        subprocess.run(["sh", "-c", blocks("sh")[0].rpartition("&&")[0]], cwd=clone, check=True)
    with serving(command, clone) as url:
        check_calls(blocks("console")[1], url)


MY_CLIENT = """
import urllib.error, urllib.request

class my_client:
    def __init__(self, url):
        self.url = url

    def assign(self, order_id, executor_id, zone_id):
        query = f"order_id={order_id}&executor_id={executor_id}&zone_id={zone_id}"
        for _ in range(2):
            try:
                urllib.request.urlopen(urllib.request.Request(f"{self.url}/orders/assign?{query}", method="PUT"))
            except urllib.error.HTTPError as error:
                return error.close()
            except ConnectionError:
                continue
"""


def test_the_python_test_passes(tmp_path: Path) -> None:
    """The README's test passes with a client that repeats its request."""
    (example,) = blocks("python")
    (tmp_path / "test_readme_example.py").write_text(f"{MY_CLIENT}\n\n{example}")
    command = [sys.executable, "-m", "pytest", "-p", "no:schemathesis", "-W", "error"]
    ended = run(command, timeout_s=100, cwd=tmp_path, env=clean_environment())
    assert ended.returncode == 0 and "1 passed" in ended.stdout, ended.stdout + ended.stderr
