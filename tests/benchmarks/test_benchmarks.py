"""The benchmarks: a run completes, notices wrong servers and failed requests, and reports figures and goals.

No test asserts a speed.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from benchmarks.databases import SqliteFile
from benchmarks.measure import GROWTH, SERVERS, Measurement, Results, Series, Settings, WrongAnswer, check, stopping
from benchmarks.report import Goal, goals, ratio, table, tables, to_json, write_tables
from benchmarks.servers import OPTIONAL, make_server
from benchmarks.wrk import PHASES, Load, WrkFailed, parse, run_wrk
from harness.processes import end_group, start
from harness.programs import GOLANG, require_program
from orders.storage.database import DatabaseURL, prepare

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def programs() -> None:
    """The required programs that do not come from PyPI."""
    require_program("wrk")
    require_program("nginx")


def benchmarks(*arguments: str) -> list[str]:
    """Return the command that runs the benchmarks."""
    return [sys.executable, "-m", "benchmarks", *arguments]


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("programs")
def test_a_quick_run_measures_every_server_in_every_phase(tmp_path: Path) -> None:
    """A quick run writes JSON with positive figures for every server and phase, charts, and tables.

    If Go is missing, the run leaves the peer in Go out. CI has Go.
    """
    readme = tmp_path / "README.md"
    steps = tmp_path / "steps.md"
    for page in (readme, steps):
        page.write_text("before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n")
    outputs = [f"--json={tmp_path / 'results.json'}", f"--charts={tmp_path / 'charts'}", f"--readme={readme}"]
    outputs.append(f"--steps={steps}")
    ended = subprocess.run(benchmarks("--quick", *outputs), cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    left_out = results["left_out"]
    assert left_out == {} or (left_out.keys() == OPTIONAL and "CI" not in os.environ), left_out
    assert list(results["servers"]) == [name for name in SERVERS if name not in left_out]
    assert list(results["growth"]) == list(GROWTH)
    grown = [series for sizes in results["growth"].values() for series in sizes.values()]
    for series in [*results["servers"].values(), *grown]:
        assert list(series["phases"]) == list(PHASES)
        assert series["first_answer_s"]["median"] > 0 and series["memory_bytes"]["median"] > 0
        for phase in series["phases"].values():
            for name, figure in phase["median"].items():
                assert figure == 0 if name == "errors" else figure > 0, (series["title"], name, figure)
    assert len(list((tmp_path / "charts").glob("*.svg"))) == 8
    assert "### Goals" in readme.read_text() and "old" not in readme.read_text()
    assert readme.read_text().startswith("before\n") and readme.read_text().endswith("after\n")
    assert "acquires/s" in steps.read_text() and "old" not in steps.read_text()


def test_a_run_without_wrk_fails_with_one_line(tmp_path: Path) -> None:
    """If wrk is missing, the run exits with 1 and one line that says how to install it."""
    ended = subprocess.run(
        benchmarks("--quick"), cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.count("\n") == 1 and "apt-get install wrk" in ended.stderr


@pytest.mark.timeout(300)
def test_a_run_without_go_leaves_the_peer_in_go_out(tmp_path: Path) -> None:
    """If Go or its library is missing, the run completes without the peer in Go, and says how to install them."""
    wrk = Path(require_program("wrk"))
    (tmp_path / "wrk").symlink_to(wrk)
    go = tmp_path / "go"
    for reason in ("go is not installed", "cannot find the library"):
        command = benchmarks("--quick", "--only", "go", "--only", "tornado")
        ended = subprocess.run(command, cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        (line,) = (line for line in ended.stdout.split("\n") if line.startswith("Left out: "))
        assert reason in line and f"apt-get install {GOLANG}" in line
        assert "Empty Tornado handler" in ended.stdout
        go.write_text("#!/bin/sh\necho 'cannot find the library' >&2\nexit 1\n")
        go.chmod(0o755)


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_behind(signal_number: signal.Signals) -> None:
    """After Ctrl-C or SIGTERM during a phase, no process and no file of the run is left."""
    run = start(benchmarks("--quick", "--seconds", "30", "--only", "orders-sqlite-2"), cwd=ROOT)
    assert run.stdout
    assert any("round 1 of 1" in line for line in run.stdout), "the run ended before its first round"
    children = psutil.Process(run.pid).children(recursive=True)
    (directory,) = {Path(child.cmdline()[-1].removeprefix("--database=sqlite:///")).parent for child in children[:1]}
    assert len(children) >= 3 and directory.is_dir()
    run.send_signal(signal_number)
    run.communicate(timeout=60)
    end_group(run.pid)
    assert run.returncode in (130, 143)
    assert not psutil.wait_procs(children, timeout=10)[1]
    assert not directory.exists()


def test_a_server_with_wrong_responses_is_not_measured(tmp_path: Path) -> None:
    """A server that answers 200 with an empty body does not pass the check for the API."""
    with ExitStack() as stack:
        server = make_server("tornado", tmp_path, stack)
        stack.enter_context(stopping(server))
        server.start()
        check(server)
        server.answers = "api"
        with pytest.raises(WrongAnswer):
            check(server)


class Failing(BaseHTTPRequestHandler):
    """Answers 500 to every request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer 500."""
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class QuietServer(ThreadingHTTPServer):
    """An HTTP server that ignores clients that disconnect."""

    def handle_error(self, *_: object) -> None:
        """Ignore the error."""


@pytest.fixture
def failing_server() -> Iterator[int]:
    """The port of a server that answers 500 to every request."""
    with QuietServer(("127.0.0.1", 0), Failing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("programs")
def test_failed_requests_are_counted(failing_server: int) -> None:
    """A response other than 2xx counts as an error."""
    load = run_wrk(failing_server, "acquire", seconds=1, executors=10, prefix="test-")
    assert load.errors == load.requests > 0


def test_the_output_of_wrk_is_parsed() -> None:
    """The last line of wrk's output is the result."""
    line = '{"requests": 10, "seconds": 2.5, "p50_ms": 1.0, "p99_ms": 2.0, "p999_ms": 3.0, "errors": 0}'
    assert parse(f"Running 2s test\n  1 threads\n{line}\n", 0.5) == Load(10, 2.5, 1.0, 2.0, 3.0, 0, 0.5)


@pytest.mark.parametrize("output", ["", "Running 2s test", "{}", '{"requests": 1}'])
def test_output_without_a_result_is_an_error(output: str) -> None:
    """If wrk printed no complete result, parsing its output fails."""
    with pytest.raises(WrkFailed, match="printed no result"):
        parse(output, 0.0)


def test_a_filled_database_has_an_acquired_order_for_each_executor(tmp_path: Path) -> None:
    """Filling keeps the table's constraints, and gives each phase its executors, each with one acquired order."""
    path = tmp_path / "orders.db"
    prepare(DatabaseURL.parse(f"sqlite:///{path}"))
    SqliteFile(path).fill(10_000)
    copy = SqliteFile(path).copy("copy")
    with closing(sqlite3.connect(copy.path)) as connection:
        statuses = dict(connection.execute("SELECT execution_status, count(*) FROM assigned_order GROUP BY 1"))
        assert statuses == {"acquired": 7500, "cancelled": 50, "completed": 2450}
        for phase in PHASES:
            query = "SELECT count(DISTINCT executor_id) FROM assigned_order WHERE executor_id LIKE ? || '-%'"
            assert connection.execute(query, (phase,)).fetchone() == (2500,)
    copy.delete()
    assert sorted(file.name for file in tmp_path.iterdir() if "copy" in file.name) == []


def series(title: str, throughputs: Sequence[float]) -> Series:
    """Return a series with these throughputs, and matching CPU times, in each phase."""
    measurements = [Measurement(figure, 1e6 / figure, 1.0, 2.0, 3.0, 0, 0.1) for figure in throughputs]
    return Series(title, {phase: measurements for phase in PHASES}, [0.2, 0.3, 0.4], [2**20] * 3)


def results_of(**servers: Series) -> Results:
    """Return the results of a run of three rounds on two cores."""
    machine: dict[str, str | int | float] = {"processor": "Z80", "cores": 2, "system": "Linux", "python": "3.14"}
    machine |= {"fsync_ms": 1.0, "connections": 32}
    settings = Settings(names=list(servers), rounds=3)
    named = {name.replace("_", "-"): series for name, series in servers.items()}
    return Results(settings, "2026-01-01T00:00:00+00:00", machine, servers=named)


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    """A round in which the machine was slow for both servers does not change their ratio."""
    assert ratio(series("a", [100, 10, 400]), series("b", [50, 5, 100]), "mix", "throughput") == 2.0


def test_goals_are_met_or_missed_or_not_judged() -> None:
    """A goal is met, missed, or, on a machine with too few cores, not judged."""
    ours, flask, two = series("Orders", [300] * 3), series("Flask", [100] * 3), series("Two", [600] * 3)
    judged = goals(results_of(orders_sqlite=ours, flask=flask, orders_sqlite_2=two))
    assert Goal("mix: throughput ÷ Flask", "≥ 2", 3.0, "met") in judged
    assert Goal("mix: throughput of 2 workers ÷ 1 (SQLite, needs 3 cores)", "≥ 1.6", 2.0, "not judged") in judged
    slow = goals(results_of(orders_sqlite=flask, flask=ours))
    assert {goal.verdict for goal in slow if "throughput" in goal.what} == {"missed"}


def test_the_peer_in_go_sets_goals() -> None:
    """The peer in Go sets a goal for p99 on PostgreSQL, and for the throughput of two workers on both databases."""
    ours, two, go = series("Orders", [300] * 3), series("Two", [600] * 3), series("Go", [400] * 3)
    results = results_of(orders_postgresql=ours, orders_postgresql_2=two, orders_sqlite_2=two, go=go)
    judged = goals(results)
    for phase in PHASES:
        assert Goal(f"{phase}: p99 ÷ Go (PostgreSQL)", "≤ 1", 1.0, "met") in judged
    assert Goal("mix: throughput of 2 workers ÷ Go (PostgreSQL)", "≥ 1.2", 1.5, "met") in judged
    assert Goal("mix: throughput of 2 workers ÷ Go (SQLite)", "≥ 1.7", 1.5, "missed") in judged


def test_failed_requests_are_reported() -> None:
    """The tables and the JSON say how many requests failed, because failing may be fast."""
    failing = series("Orders", [300] * 3)
    failing.phases["mix"] = [Measurement(300, 1, 1, 1, 1, 7, 0.1)]
    results = results_of(orders_sqlite=failing)
    assert "Note: Orders, mix: 7 requests failed." in tables(results)
    assert to_json(results)["warnings"] == ["Orders, mix: 7 requests failed"]


def test_tables_are_markdown() -> None:
    """A table is Markdown with aligned columns."""
    assert table(["", "figure"], [["long name", "1"]]).split("\n") == [
        "|           | figure |",
        "|-----------|-------:|",
        "| long name |      1 |",
    ]


def test_a_page_without_marks_is_not_changed(tmp_path: Path) -> None:
    """If a page has no marks for the tables, writing them fails and does not change the page."""
    page = tmp_path / "README.md"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="no marks"):
        write_tables(page, "tables")
    assert page.read_text() == "no marks"
