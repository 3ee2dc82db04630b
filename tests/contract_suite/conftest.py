"""Which of the correct and faulty servers are tried, and how many of the faults the suite found."""

from collections.abc import Iterator

import pytest

from tests.contract_suite.suite import LoadedSuite
from tests.faulty.faults import FAULTS, sample

# They take minutes, and are left to a run of their own.
LONG = ("test_a_correct_server_conforms", "test_a_fault_is_found")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for what takes long."""
    parser.addoption(
        "--part",
        choices=["everyday", "rest", "all"],
        default="everyday",
        help="everyday: all but the correct servers, and a sample of the faults; rest: what that leaves out",
    )


def part(config: pytest.Config) -> str:
    """Return which part is to run."""
    # Without the name of this folder on the command line, the option comes too late to be there.
    part: str = config.getoption("part", default="everyday")
    return part


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Try the faults of the part."""
    if "fault" in metafunc.fixturenames:
        everyday = sample()
        rest = [fault for fault in FAULTS if fault not in everyday]
        faults = {"everyday": everyday, "rest": rest, "all": FAULTS}[part(metafunc.config)]
        metafunc.parametrize("fault", faults, ids=lambda fault: fault.name)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what belongs to the other part."""
    others = {
        "everyday": [item for item in items if item.name.startswith(LONG[0])],
        "rest": [item for item in items if not item.name.startswith(LONG)],
        "all": [],
    }[part(config)]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the kill rate."""
    found, missed = (
        [report for report in terminalreporter.stats.get(outcome, []) if "::test_a_fault_is_found[" in report.nodeid]
        for outcome in ("passed", "failed")
    )
    if found or missed:
        total = len(found) + len(missed)
        terminalreporter.write_line(f"kill rate: {len(found)} of {total} faults found, each under its clause")


@pytest.fixture(scope="session")
def suite() -> Iterator[LoadedSuite]:
    """The suite, loaded once for all tests."""
    suite = LoadedSuite()
    yield suite
    suite.close()
