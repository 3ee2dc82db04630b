"""Fixtures for pytest, which finds them by itself where this package is installed.

This module is imported at the start of every pytest run, so it imports the server only when a test asks for it.
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
    from orders.testing import ReferenceServer

    with ReferenceServer() as server:
        yield server


@pytest.fixture
def orders_url(orders_server: ReferenceServer) -> str:
    """The URL of `orders_server`, which was reset for this test: no orders, no faults, an empty journal."""
    orders_server.reset()
    return orders_server.url
