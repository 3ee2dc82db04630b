"""What makes pytest run the suite: its options, the server, and the verdicts at the end."""

import contextlib
import os
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from contract_tests import current, report
from contract_tests.clauses import CLAUSES, Level
from contract_tests.rules import CANCELED, CREATED, NO_ORDERS, not_active
from contract_tests.run import BUDGETS, ExitCode, Run, ServerLost, Violation
from contract_tests.service import Service, acquire_request, assign_request, cancel_request
from contract_tests.transport import TRANSPORT_ERRORS, Connection, Target, explain

START_TIMEOUT_S = 30
# So long after the time limit, the run is ended from outside.
STUCK_S = 120
# Clauses that the run as a whole checks, with all that it sends.
WHOLE_RUN = {"ERROR-1", "ERROR-2", "LIFE-7"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the suite's options."""
    group = parser.getgroup("contract", "the contract suite of the orders service")
    # The plugin pytest-base-url, if it is there, has this option already, under the same name.
    with contextlib.suppress(ValueError):
        group.addoption(
            "--base-url",
            metavar="URL",
            help="the server to check (ORDERS_BASE_URL; default: start `python -m orders serve` and check that)",
        )
    group.addoption("--seed", type=int, metavar="N", help="repeat the random choices of the run with this seed")
    group.addoption(
        "--budget",
        choices=list(BUDGETS),
        default="quick",
        help="brief: about 10 s; quick: about 30 s; thorough: about 5 min (default: quick)",
    )
    group.addoption(
        "--level",
        choices=[level.lower() for level in Level],
        default="should",
        help="must: clauses of level SHOULD are reported but do not fail the run (default: should)",
    )
    group.addoption(
        "--clause",
        action="append",
        default=[],
        metavar="ID",
        help="check only this clause, such as ASSIGN-6; may be given several times (default: all)",
    )
    group.addoption(
        "--answer-timeout", type=float, default=10.0, metavar="S", help="seconds that an answer may take (default: 10)"
    )
    group.addoption(
        "--report-dir",
        type=Path,
        default=Path("contract-report"),
        metavar="DIR",
        help="where report.html, report.json and report.xml (JUnit) go (default: contract-report)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Read the options; the run begins."""
    option = config.getoption
    if hasattr(config, "workerinput") or option("numprocesses", None):
        raise pytest.UsageError("-n: the suite runs in one process, because the order of what it sends matters")
    if not 0 < option("answer_timeout") <= 600:
        raise pytest.UsageError("--answer-timeout: more than 0 and at most 600 seconds")
    for clause in option("clause"):
        if clause not in CLAUSES:
            raise pytest.UsageError(
                f"--clause {clause}: there is no such clause; the list is in contract_tests/README.md"
            )
    seed = option("seed")
    url = option("base_url") or os.environ.get("ORDERS_BASE_URL") or ""
    # Until the suite's own server is up, its address is not known.
    try:
        target = Target(url or "http://127.0.0.1:0", option("answer_timeout"))
    except ValueError as error:
        raise pytest.UsageError(f"--base-url {url!r} is not the URL of a server: {error}") from None
    current.run = Run(
        target,
        BUDGETS[option("budget")],
        Level(option("level").upper()),
        random.SystemRandom().randrange(1 << 31) if seed is None else seed,
        frozenset(option("clause")),
    )
    config.stash[_RUN] = current.run
    config.stash[_STARTS_SERVER] = not url


_RUN = pytest.StashKey[Run]()
_STARTS_SERVER = pytest.StashKey[bool]()


def pytest_report_header(config: pytest.Config) -> str:
    """Say what is checked, and how to repeat it."""
    run = config.stash[_RUN]
    what = "python -m orders serve" if config.stash[_STARTS_SERVER] else run.target.base_url
    return f"contract suite: {what}, budget {run.budget.name}, level {run.level.lower()}, --seed {run.seed}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of other clauses than those asked for; run the first and the last in their places."""
    wanted = config.stash[_RUN].wanted
    if wanted and not wanted & WHOLE_RUN:
        others = [item for item in items if not wanted & clauses_of(item)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]
    items.sort(key=lambda item: bool(item.get_closest_marker("last")) - bool(item.get_closest_marker("first")))


def clauses_of(test: pytest.Item) -> frozenset[str]:
    """Return the clauses that a test says it checks."""
    return frozenset(clause for marker in test.iter_markers("clause") for clause in marker.args)


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Run the tests against a server that is there and is the orders service; without one, say so and run none."""
    run = session.config.stash[_RUN]
    if session.config.option.collectonly or session.testsfailed:
        return (yield)
    with contextlib.ExitStack() as stack:
        try:
            if session.config.stash[_STARTS_SERVER]:
                url = stack.enter_context(_reference_server())
                run.target = Target(url, run.target.timeout_s)
            _check_is_the_service(run)
        except ServerLost as error:
            run.errors.append(str(error))
            session.shouldstop = "there is no server to check"
            # The loop is left out, but a wrapper has to let it through.
            session.items.clear()
        stack.enter_context(_time_limit(session, run, stack.close))
        result = yield
        if run.requests and not run.errors:
            run.passed.add("ERROR-2")
        return result


@contextlib.contextmanager
def _reference_server() -> Iterator[str]:
    """Run the reference implementation on a free port and a database of its own; yield its URL."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "orders", "serve", "--port", "0", "--no-access-log"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ORDERS_")}
        database = f"sqlite:///{folder}/orders.db"
        process = subprocess.Popen(
            [*command, "--database", database],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
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
                raise ServerLost(f"`python -m orders serve` does not start: {reason}")
            # Nobody reads its log; what does not fit in the pipe is dropped by the server.
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


def _check_is_the_service(run: Run) -> None:
    """Ask each operation once; raise ServerLost if nothing answers, or nothing that could be the orders service."""
    service = Service(run)
    order = service.new_order()
    connection = Connection(run.target)
    answers, reason = [], ""
    for request in (acquire_request(order.executor_id), assign_request(order), cancel_request(order.order_id)):
        try:
            answers.append(connection.send(request))
        except TRANSPORT_ERRORS as error:
            reason = explain(error)
    connection.close()
    if not answers:
        raise ServerLost(f"no service at {run.target.base_url}: {reason}")
    # A JSON object, or one of the messages, however wrapped up: what is wrong with it is for the tests to say.
    messages = (CREATED, NO_ORDERS, CANCELED, not_active(order.order_id))
    if not any(answer.json is not None or any(text.encode() in answer.body for text in messages) for answer in answers):
        raise ServerLost(
            f"{run.target.base_url} is not the orders service: none of the three operations is answered as it "
            f"should be; GET /order/acquire is answered {str(answers[0])[:200]!r}"
        )


@contextlib.contextmanager
def _time_limit(session: pytest.Session, run: Run, clean_up: Callable[[], None]) -> Iterator[None]:
    """End a run that is stuck for good, with a report, although no test gets to the point of saying so."""

    def give_up() -> None:
        run.errors.append(f"the run was not over after {run.elapsed_s:.0f} s, and given up")
        report.write(run, session.config.getoption("report_dir"))
        # What the tests print is captured; this is not.
        os.write(2, f"\n{report.text(run)}\n".encode(errors="backslashreplace"))
        clean_up()
        os._exit(ExitCode.ERROR)

    timer = threading.Timer(run.budget.limit_s + STUCK_S, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a test fail for all that was recorded in it, in a line each; and stop if the server is gone."""
    result = yield
    run = item.config.stash[_RUN]
    error = call.excinfo.value if call.excinfo else None
    failures = [failure for kept in run.failures.values() for failure in kept if failure.test == item.nodeid]
    if error is not None:
        reason = error.failure.clause + " failed on the way to it" if isinstance(error, Violation) else str(error)
        for clause in run.clauses:
            run.blocked.setdefault(clause, reason.splitlines()[0] if reason else type(error).__name__)
    if isinstance(error, ServerLost):
        run.errors.append(str(error))
        item.session.shouldstop = "there is no server to check any more"
        result.outcome, result.longrepr = "failed", str(error)
    elif call.when == "call" and (failures or isinstance(error, Violation)):
        result.outcome = "failed"
        lines = {f"{failure.clause}: expected {failure.expected}" for failure in failures}
        result.longrepr = "\n".join(sorted(lines)) or str(error)
    elif error is not None and not isinstance(error, Violation | pytest.skip.Exception):
        run.errors.append(f"{item.name} ({call.when}): {type(error).__name__}: {str(error).splitlines()[0][:300]}")
    return result


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Stop when the time is up."""
    run = item.config.stash[_RUN]
    run.test, run.clauses = item.nodeid, clauses_of(item)
    if run.elapsed_s > run.budget.limit_s:
        raise ServerLost(
            f"the server is too slow: {run.requests} requests took {run.elapsed_s:.0f} s; the rest is left out"
        )


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the reports, and exit as the verdicts say."""
    run = session.config.stash[_RUN]
    if exitstatus == ExitCode.INTERRUPTED and session.testsfailed and not run.requests:
        run.errors.append("the tests cannot be loaded; is everything installed? (pip install '.[contract]')")
    interrupted = exitstatus == ExitCode.INTERRUPTED and not run.errors
    if interrupted:
        run.errors.append("the run was interrupted")
    if exitstatus in (ExitCode.INTERRUPTED, ExitCode.USAGE, ExitCode.NOTHING_SELECTED) and not run.errors:
        return
    if session.config.option.collectonly:
        return
    if exitstatus == pytest.ExitCode.INTERNAL_ERROR:
        run.errors.append("pytest failed by itself")
    report.write(run, session.config.getoption("report_dir"))
    session.exitstatus = ExitCode.INTERRUPTED if interrupted else run.exit_code()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the table of verdicts and what failed."""
    run = config.stash[_RUN]
    if config.option.collectonly:
        return
    terminalreporter.section("the contract")
    terminalreporter.write_line(report.text(run, color=terminalreporter.hasmarkup))
    page = config.getoption("report_dir") / "report.html"
    if run.requests and page.exists():
        terminalreporter.write_line(f"report: {page}")


@pytest.fixture
def run(pytestconfig: pytest.Config) -> Run:
    """The run that this test is part of."""
    return pytestconfig.stash[_RUN]


@pytest.fixture
def service(run: Run) -> Iterator[Service]:
    """The service under test, for one scenario."""
    service = Service(run)
    yield service
    service.close()
