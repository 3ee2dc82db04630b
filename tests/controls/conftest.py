"""Fixtures: servers with the test controls on, and clients of them."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest

from harness.server import ServerProcess
from tests.controls.client import IN_MEMORY, ControlledClient


@pytest.fixture(scope="package")
def controlled_server() -> Iterator[ServerProcess]:
    """A server with the controls on, and its orders in memory."""
    with ServerProcess("--controls", database=IN_MEMORY) as server:
        yield server
        server.stop()


@pytest.fixture
def controls(controlled_server: ServerProcess) -> Iterator[ControlledClient]:
    """A client of that server, which has been reset."""
    with ControlledClient(controlled_server.url) as client:
        client.reset()
        yield client


@pytest.fixture(scope="package", params=["memory", "SQLite", "PostgreSQL"])
def any_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the controls on, on each kind of database in turn."""
    if request.param == "memory":
        database = IN_MEMORY
    elif request.param == "SQLite":
        database = f"sqlite:///{tmp_path_factory.mktemp('controls')}/orders.db"
    else:
        database = request.getfixturevalue("postgresql").create_database()
    with ServerProcess("--controls", database=database) as server:
        yield server
        server.stop()


@pytest.fixture
def any_controls(any_server: ServerProcess) -> Iterator[ControlledClient]:
    """A client of that server, which has been reset."""
    with ControlledClient(any_server.url) as client:
        client.reset()
        yield client


@pytest.fixture
def in_thread() -> Iterator[Callable[..., "Future[httpx.Response]"]]:
    """A function that calls another one on a thread, and returns its future."""
    with ThreadPoolExecutor(8) as threads:
        yield threads.submit
