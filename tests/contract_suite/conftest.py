"""How many of the planted faults are tried, and how many of them the suite found."""

from collections.abc import Iterator

import pytest

from tests.contract_suite.suite import LoadedSuite
from tests.faulty.faults import FAULTS, sample


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for a complete run."""
    parser.addoption("--all-faults", action="store_true", help="try all planted faults (default: a sample of them)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Try the faults of the sample, or all."""
    if "fault" in metafunc.fixturenames:
        # Without the name of this folder on the command line, the option comes too late to be there.
        faults = FAULTS if metafunc.config.getoption("all_faults", default=False) else sample()
        metafunc.parametrize("fault", faults, ids=lambda fault: fault.name)


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
