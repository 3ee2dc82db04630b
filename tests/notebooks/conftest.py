"""The option that stores the fresh outputs instead of comparing them."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --refresh."""
    parser.addoption("--refresh", action="store_true", help="store the fresh outputs of the notebooks")


@pytest.fixture
def refresh(pytestconfig: pytest.Config) -> bool:
    """Whether the fresh outputs are to be stored."""
    # The option is not there if pytest was not told of this folder on its command line.
    return bool(pytestconfig.getoption("--refresh", default=False))
