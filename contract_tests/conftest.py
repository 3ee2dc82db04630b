"""Runs the suite with pytest: the options, the server, the verdict on each clause, and the exit code."""

import argparse
import contextlib
import os
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from contract_tests.options import add_options, base_url, make_report_dir, new_run
from contract_tests.suite import evidence, report, server
from contract_tests.suite.run import ExitCode, Run, ServerLost, Violation
from contract_tests.suite.scenario import Scenario
from contract_tests.suite.transport import Target
from contract_tests.suite.waiting import WaitingOrders

# A run that is still going on so long after its time limit is stuck, and ended from outside.
STUCK_S = 120
# Clauses that the run as a whole checks, with all that it sends.
WHOLE_RUN = {"ERROR-1", "ERROR-2", "LIFE-7"}
MARKERS = (
    "clause: the clauses that the test checks",
    "first: runs before all other tests",
    "last: runs after all other tests",
)

_RUN = pytest.StashKey[Run]()
_STARTS_SERVER = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the suite's options."""
    group = parser.getgroup("contract", "the contract suite of the orders service")

    def add(*names: str, **settings: Any) -> None:
        # A plugin may have the option already: pytest-base-url has --base-url, and pytest-xdist has -n.
        with contextlib.suppress(argparse.ArgumentError):
            # Not `addoption`, which refuses -n.
            group._addoption(*names, **settings)

    add_options(add)


def pytest_configure(config: pytest.Config) -> None:
    """Read the options, and begin the run."""
    if hasattr(config, "workerinput"):
        raise pytest.UsageError("the suite runs in one process, because the order of its requests matters")
    try:
        Run.current = config.stash[_RUN] = new_run(config.option)
        if not config.option.collectonly:
            make_report_dir(config.option.report_dir)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[_STARTS_SERVER] = base_url(config.option) is None
    # These are not in pytest.ini, because `pytest --pyargs contract_tests` reads the settings of the current directory.
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    if config.option.tbstyle == "auto":
        # The suite reports failures itself. `--tb=short` shows where in the suite they occur.
        config.option.tbstyle = "no"


def pytest_report_collectionfinish(config: pytest.Config) -> str:
    """Say which server is checked, and how to repeat the run."""
    run = config.stash[_RUN]
    what = server.COMMAND if config.stash[_STARTS_SERVER] else run.target.base_url
    return f"contract suite: {what}, budget {run.budget.name}, level {run.level.lower()}, --seed {run.seed}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of clauses that are not selected, and put the first and the last test in their places."""
    selected = config.stash[_RUN].selected
    if selected and not selected & WHOLE_RUN:
        others = [item for item in items if not selected & clauses_of(item)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]
    items.sort(key=lambda item: bool(item.get_closest_marker("last")) - bool(item.get_closest_marker("first")))


def clauses_of(test: pytest.Item) -> frozenset[str]:
    """Return the clauses that a test is marked with."""
    return frozenset(clause for marker in test.iter_markers("clause") for clause in marker.args)


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Run the tests if there is a server and it is the orders service. Otherwise record an error, and run none."""
    run = session.config.stash[_RUN]
    if session.config.option.collectonly or session.testsfailed:
        return (yield)
    with contextlib.ExitStack() as stack:
        try:
            if session.config.stash[_STARTS_SERVER]:
                url = stack.enter_context(server.reference_server())
                run.target = Target(url, run.target.timeout_s)
            server.check_is_the_service(run)
            server.learn_wording(run)
        except ServerLost as error:
            run.errors.append(str(error))
            session.shouldstop = "there is no server to check"
            # A wrapper cannot leave the loop out.
            session.items.clear()
        stack.enter_context(_time_limit(session, run, stack.close))
        try:
            result = yield
            if run.requests and not run.errors:
                run.passed.add("ERROR-2")
            return result
        finally:
            # The server may be stopped after this. A run that ends early has evidence, too.
            if not run.errors:
                evidence.shorten_all(run)


@contextlib.contextmanager
def _time_limit(session: pytest.Session, run: Run, clean_up: Callable[[], None]) -> Iterator[None]:
    """Write the reports and end the process, if the run is stuck in a test."""

    def give_up() -> None:
        run.errors.append(f"the run was stuck, and ended after {run.elapsed_s:.0f} s")
        report.write(run, session.config.getoption("report_dir"))
        # pytest captures what is printed, but not this.
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
    """Note how the checks of a test's clauses ended. Fail the test for each failure that was recorded in it."""
    result = yield
    run = item.config.stash[_RUN]
    failures = [failure for kept in run.failures.values() for failure in kept if failure.test == item.nodeid]
    error = None
    if call.excinfo:
        # Without Hypothesis, this module still has to say what is missing.
        from contract_tests.suite.settings import raised_by_check

        error = raised_by_check(call.excinfo.value)
    match error:
        case None:
            if call.when == "call":
                run.passed |= run.clauses
        case Violation():
            for clause in run.clauses - {error.failure.clause}:
                run.stopped_by.setdefault(clause, error.failure.clause)
        case ServerLost() | pytest.skip.Exception():
            for clause in run.clauses:
                run.unfinished.setdefault(clause, str(error))
        case _:
            what = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"
            run.errors.append(f"{item.name} ({call.when}): {what}")
            for clause in run.clauses:
                run.broken_checks.setdefault(clause, what)
    if isinstance(error, ServerLost):
        run.errors.append(str(error))
        item.session.shouldstop = "the run cannot go on"
        result.outcome, result.longrepr = "failed", str(error)
    elif call.when == "call" and (failures or isinstance(error, Violation)):
        result.outcome = "failed"
        lines = {f"{failure.clause}: expected {failure.expected}" for failure in failures}
        result.longrepr = "\n".join(sorted(lines)) or str(error)
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tell the run which test begins. Stop if the time is up."""
    run = item.config.stash[_RUN]
    run.test, run.clauses = item.nodeid, clauses_of(item)
    if run.elapsed_s > run.budget.limit_s:
        raise ServerLost(
            f"the server is too slow: {run.requests} requests took {run.elapsed_s:.0f} s; the other tests are left out"
        )


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the reports, and set the exit code."""
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
        run.errors.append("pytest itself failed")
    report.write(run, session.config.getoption("report_dir"))
    session.exitstatus = ExitCode.INTERRUPTED if interrupted else run.exit_code()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the verdicts and the failures."""
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
    """The run of which the test is part."""
    return pytestconfig.stash[_RUN]


@pytest.fixture(scope="session")
def waiting_orders(pytestconfig: pytest.Config) -> WaitingOrders:
    """Orders that wait together."""
    return WaitingOrders(pytestconfig.stash[_RUN])


@pytest.fixture
def scenario(run: Run) -> Iterator[Scenario]:
    """A scenario on the server under test."""
    scenario = Scenario(run)
    yield scenario
    scenario.close()
