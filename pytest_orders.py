"""The fixtures for tests of clients, which pytest finds by itself where this project is installed.

Every pytest run imports this module, so it imports nothing of `orders` before a test asks for it: that costs nothing,
and projects that have a package `orders` of their own are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from orders.testing import ReferenceServer


@pytest.fixture(scope="session")
def orders_server() -> Iterator[ReferenceServer]:
    """A reference server of the orders service, of each process with pytest-xdist: `orders.testing.ReferenceServer`.

    It serves all tests of a run, and `orders_url` is what resets it. Fixtures of a wider scope take the URL from here.
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
    """The URL of `orders_server`, which was reset for this test: no orders, no faults, an empty journal."""
    orders_server.reset()
    return orders_server.url
