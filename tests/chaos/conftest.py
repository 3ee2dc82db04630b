"""Options of the run, and what it prints."""

import random

import pytest

from tests.chaos.faults import ALL_FAULTS, name_of

# Starting, the last requests, and the check of all histories come on top of the time that the faults take.
MORE_S = 600


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("chaos")
    group.addoption("--seed", type=int, metavar="N", help="repeat the random choices of a run (default: a new seed)")
    group.addoption("--seconds", type=float, default=60, metavar="N", help="time for faults, per database (default 60)")
    group.addoption(
        "--without",
        action="append",
        default=[],
        choices=[name_of(fault) for fault in ALL_FAULTS],
        help="leave a fault out; may be given several times",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Choose a seed. The processes of pytest-xdist get it with the other options."""
    if config.option.seed is None:
        config.option.seed = random.SystemRandom().randrange(1 << 31)


def pytest_report_header(config: pytest.Config) -> str:
    """Return a line that says how to repeat the run."""
    return f"chaos: to repeat the random choices: tox run -e chaos -- --seed {config.option.seed}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give the runs the time that they need."""
    for item in items:
        item.add_marker(pytest.mark.timeout(config.option.seconds * 2 + MORE_S))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the seed and what the runs did, also when they pass."""
    terminalreporter.write_line(f"chaos: --seed {config.option.seed}")
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in report.user_properties:
                terminalreporter.write_line(f"chaos: {name}: {value}")
