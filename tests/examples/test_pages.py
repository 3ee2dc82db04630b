"""The commands of README.md and docs/, run as a reader runs them. They print what the pages show."""

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
from typing import Any

import httpx
import pytest

from harness.clone import ROOT, make_clone
from harness.postgresql import PostgreSQL
from harness.processes import clean_environment, end_group, run, start
from harness.programs import require_program
from tests.faulty.faults import FAULTS

URL = "http://127.0.0.1:8080"
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


def blocks(page: str, language: str) -> list[str]:
    """Return a page's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


RUN, CHECK, *_ = blocks("README.md", "sh")


def normalised(output: str) -> str:
    """Return output with placeholders for the ids of a run, UUIDs, times and the server's address."""
    output = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", output)
    output = re.sub(r"(order|executor|zone)-(\$run|[0-9a-f]{8})-\d+", r"\1-ID", output)
    output = re.sub(r"http://127\.0\.0\.1:\d+", URL, output)
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "TIME", output)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone, in which the README's first command has installed the package."""
    clone = tmp_path_factory.mktemp("pages") / "clone"
    make_clone(clone)
    install, _, _ = RUN.rpartition(" && ")
    ended = run(["sh", "-c", install], timeout_s=600, cwd=clone, env=clean_environment())
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return clone


@contextmanager
def serving(command: str, directory: Path) -> Iterator[str]:
    """Run a command that starts a server, while the block runs; yield the server's URL."""
    server = start(["sh", "-c", command], cwd=directory, env=clean_environment(ORDERS_PORT="0"), stderr=None)
    try:
        assert server.stdout
        ready = next((line for line in server.stdout if line.startswith("orders listening on ")), "")
        assert ready, f"the server did not start: {command}"
        yield ready.split()[-1]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)
        end_group(server.pid)
        if server.stdout:
            server.stdout.close()


def check_calls(page: str, url: str) -> int:
    """Run the curl commands of a page, and compare their output with the page's. Return the number of commands."""
    require_program("curl")
    calls = re.findall(r"^\$ (curl .*)\n(.*)$", "".join(blocks(page, "console")), re.MULTILINE)
    for command, output in calls:
        arguments = [*shlex.split(command.replace(URL, url)), "--silent", "--show-error"]
        ended = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
        assert normalised(ended.stdout + ended.stderr.strip()) == normalised(output), command
    return len(calls)


@pytest.mark.timeout(900)
def test_the_readme_runs_the_server_and_the_suite(clone: Path) -> None:
    """The README's first command starts the server, the curl commands print what it shows, and the second checks it."""
    with serving(RUN, clone) as url:
        assert check_calls("README.md", url) == 6
        # One clause is enough here. tests/contract_suite checks all of them on this server.
        report = check(clone, url, "ASSIGN-1")
    verdicts = {clause["id"]: clause["verdict"] for clause in report["clauses"]}
    assert (report["url"], report["level"]) == (url, "should") and verdicts["ASSIGN-1"] == "pass", report


@pytest.mark.timeout(900)
def test_the_readme_shows_a_verdict(clone: Path) -> None:
    """The verdict in the README is that of its second command on a server that refuses to cancel an acquired order."""
    (shown,) = blocks("README.md", "text")
    *lines, also = shown.splitlines()
    effects = re.findall(r"[A-Z]+-\d+", also)
    fault = next(fault for fault in FAULTS if fault.name == "cancel-refuses-acquired")
    with fault.server() as server:
        check(clone, server.url, "CANCEL-4", *effects, exit_code=1)
    printed = normalised((clone / "output.txt").read_text()).splitlines()
    missing = [line for line in lines if normalised(line) not in printed]
    assert not missing, "\n".join([*missing, "is not in", *printed])
    assert f"   also seen in: {', '.join(effects)}" in printed, printed


def check(clone: Path, url: str, *clauses: str, exit_code: int = 0) -> dict[str, Any]:
    """Run the README's second command for some clauses; return the report. `output.txt` has what it printed."""
    command = " ".join([CHECK.rstrip().replace(URL, url), *(f"--clause {clause}" for clause in clauses)])
    ended = run(["sh", "-c", command], timeout_s=600, cwd=clone, env=clean_environment())
    assert ended.returncode == exit_code, ended.stdout + ended.stderr
    (clone / "output.txt").write_text(ended.stdout)
    report: dict[str, Any] = json.loads((clone / "contract-report" / "report.json").read_text())
    return report


@pytest.mark.timeout(900)
def test_the_commands_of_the_server_page_start_it(clone: Path) -> None:
    """Both commands of docs/server.md start the server, on the file `orders.db`."""
    (block,) = blocks("docs/server.md", "sh")
    for command in block.splitlines():
        with serving(command, clone):
            assert (clone / "orders.db").exists(), command
        (clone / "orders.db").unlink()


@pytest.mark.timeout(900)
def test_the_commands_of_the_postgresql_page_start_the_server(clone: Path) -> None:
    """The commands of docs/postgresql.md install psycopg and start the server on PostgreSQL."""
    (block,) = blocks("docs/postgresql.md", "sh")
    install, command = block.splitlines()
    ended = run(["sh", "-c", install], timeout_s=600, cwd=clone, env=clean_environment())
    assert ended.returncode == 0, ended.stdout + ended.stderr
    shown = "postgresql://orders@127.0.0.1/orders"
    assert shown in command, command
    with PostgreSQL() as postgresql, serving(command.replace(shown, postgresql.url), clone) as url:
        assert httpx.get(f"{url}/health", trust_env=False).status_code == 200
        assert postgresql.execute("SELECT count(*) FROM assigned_order") == [(0,)]


@pytest.mark.timeout(900)
def test_the_controls_answer_as_their_page_shows(clone: Path) -> None:
    """The command of docs/controls.md starts the server, and the curl commands print what the page shows."""
    (command,) = blocks("docs/controls.md", "sh")
    with serving(command, clone) as url:
        assert check_calls("docs/controls.md", url) == 7


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


def test_the_test_in_python_passes(tmp_path: Path) -> None:
    """The test in docs/controls.md passes with a client that repeats its request."""
    example, _ = blocks("docs/controls.md", "python")
    (tmp_path / "test_example.py").write_text(f"{MY_CLIENT}\n\n{example}")
    command = [sys.executable, "-m", "pytest", "-p", "no:schemathesis", "-W", "error"]
    ended = run(command, timeout_s=100, cwd=tmp_path, env=clean_environment())
    assert ended.returncode == 0 and "1 passed" in ended.stdout, ended.stdout + ended.stderr


def test_the_server_in_python_runs() -> None:
    """The program in docs/controls.md starts a server, and prints its URL and the stored order."""
    _, example = blocks("docs/controls.md", "python")
    ended = run([sys.executable, "-c", example], timeout_s=100, env=clean_environment())
    assert ended.stdout.startswith("http://127.0.0.1:") and "'order-1'" in ended.stdout, ended.stdout + ended.stderr


def test_every_command_is_run() -> None:
    """These tests run all commands of README.md and docs/, except those that tests/notebooks and .ci/run run."""
    found = [
        (page, language) for page in PAGES for language in ("sh", "console", "python") for _ in blocks(page, language)
    ]
    assert found == [
        *[("README.md", "sh")] * 4,
        *[("README.md", "console")] * 2,
        ("docs/controls.md", "sh"),
        *[("docs/controls.md", "console")] * 3,
        *[("docs/controls.md", "python")] * 2,
        ("docs/postgresql.md", "sh"),
        ("docs/server.md", "sh"),
    ]
