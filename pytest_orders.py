"""The pytest plugin for tests of clients: fixtures, and the journal in the report of a failed test.

Where this project is installed, pytest finds the plugin by itself. Every run of pytest imports this module, even in a
project that has a package `orders` of its own. So this module imports `orders` only when a test uses a fixture.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from orders.testing import ReferenceServer

SUITE = "contract_tests"
MAX_REPORTED_REQUESTS = 20


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Name the contract suite by its path in `pytest --pyargs contract_tests`.

    Before pytest reads the options, it loads the conftest.py of a path, which adds the suite's options, but not the one
    of a package.
    """
    options = early_config.known_args_namespace
    if options.pyargs and SUITE in options.file_or_dir:
        for arguments in (args, options.file_or_dir):
            arguments[arguments.index(SUITE)] = str(Path(__file__).with_name(SUITE))


@pytest.fixture(scope="session")
def orders_server() -> Iterator[ReferenceServer]:
    """The `orders.testing.ReferenceServer` for all tests of a run. With pytest-xdist, each process has its own.

    This fixture never resets the server; `orders_url` does. Use `orders_server.url` in a fixture with a wider scope.
    """
    try:
        from orders.testing import ReferenceServer
    except ModuleNotFoundError as error:
        if error.name != "orders.testing":
            raise
        raise pytest.UsageError(
            "this project has a package `orders` of its own, which hides the one with the server; run `orders serve"
            " --controls` from an environment of its own"
        ) from None

    with ReferenceServer() as server:
        yield server


@pytest.fixture
def orders_url(orders_server: ReferenceServer) -> str:
    """The URL of `orders_server`, which is reset before the test: no orders, no faults, an empty journal."""
    orders_server.reset()
    return orders_server.url


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Add the journal to the report of a failed test that uses the server."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()
    server: ReferenceServer | None = getattr(item, "funcargs", {}).get("orders_server")
    if report.failed and server is not None:
        report.sections.append(("Journal of orders_server", journal_of(server)))


def journal_of(server: ReferenceServer) -> str:
    """Return the last requests to a server, one per line."""
    try:
        requests = server.requests()
    except RuntimeError as error:
        return f"not available: {error}"
    left_out = len(requests) - MAX_REPORTED_REQUESTS
    lines = [f"({left_out} earlier requests)"] if left_out > 0 else []
    lines += map(str, requests[-MAX_REPORTED_REQUESTS:])
    return "\n".join(lines) or "no requests"
