"""Prints how many of the planted faults the suite found."""

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the kill rate."""
    found, missed = (
        [report for report in terminalreporter.stats.get(outcome, []) if "::test_a_fault_is_found[" in report.nodeid]
        for outcome in ("passed", "failed")
    )
    if found or missed:
        total = len(found) + len(missed)
        terminalreporter.write_line(f"kill rate: {len(found)} of {total} faults found, each under its clause")
