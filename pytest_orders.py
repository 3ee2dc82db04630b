"""The pytest plugin: fixtures for tests of clients. Where this project is installed, pytest finds it by itself.

Every run of pytest imports this module, even in a project that has a package `orders` of its own. So this module
imports `orders` only when a test uses a fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from orders.testing import ReferenceServer

SUITE = "contract_tests"


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
