"""Selects the servers on which the suite is tried, and prints how many of the planted faults it found."""

from collections.abc import Iterator

import pytest

from tests.contract_suite.runner import LoadedSuite
from tests.faulty.faults import FAULTS, sample

# Tests that take minutes on all their servers.
LONG = ("test_a_correct_server_conforms", "test_a_fault_is_found")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that selects servers."""
    parser.addoption(
        "--part",
        choices=["everyday", "rest", "all"],
        default="everyday",
        help="everyday: a sample of the faults, no correct server; rest: what everyday leaves out (default: everyday)",
    )


def part(config: pytest.Config) -> str:
    """Return which part is to run."""
    # pytest knows the option only if the command line names this folder.
    part: str = config.getoption("part", default="everyday")
    return part


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with a `fault` once for each fault of the part."""
    if "fault" in metafunc.fixturenames:
        everyday = sample()
        rest = [fault for fault in FAULTS if fault not in everyday]
        faults = {"everyday": everyday, "rest": rest, "all": FAULTS}[part(metafunc.config)]
        metafunc.parametrize("fault", faults, ids=lambda fault: fault.name)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of the other part."""
    others = {
        "everyday": [item for item in items if item.name.startswith(LONG[0])],
        "rest": [item for item in items if not item.name.startswith(LONG)],
        "all": [],
    }[part(config)]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many of the faults were found."""
    found, missed = (
        [report for report in terminalreporter.stats.get(outcome, []) if "::test_a_fault_is_found[" in report.nodeid]
        for outcome in ("passed", "failed")
    )
    if found or missed:
        total = len(found) + len(missed)
        terminalreporter.write_line(f"faults found, each under its clause: {len(found)} of {total}")


@pytest.fixture(scope="session")
def suite() -> Iterator[LoadedSuite]:
    """The suite, loaded once for all tests."""
    suite = LoadedSuite()
    yield suite
    suite.close()
