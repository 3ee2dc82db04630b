"""The option `--refresh`, which stores fresh outputs instead of comparing them."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --refresh."""
    parser.addoption("--refresh", action="store_true", help="store fresh outputs of the notebooks")


@pytest.fixture
def refresh(pytestconfig: pytest.Config) -> bool:
    """Whether to store the fresh outputs."""
    # The option exists only if this folder was named on the command line.
    return bool(pytestconfig.getoption("--refresh", default=False))
