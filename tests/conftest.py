"""Fixtures that the tests share."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from harness.client import Client
from harness.postgresql import PostgreSQL
from harness.server import ServerProcess
from orders.contract import Contract, contract_path, load_contract


@pytest.fixture(scope="session")
def contract() -> Contract:
    """The contract, loaded as the server loads it."""
    return load_contract(contract_path())


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server on an SQLite file, shared by all tests that do not disturb it."""
    with ServerProcess(database=tmp_path_factory.mktemp("server") / "orders.db") as server:
        yield server
        server.stop()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL server, shared by all tests that do not disturb it."""
    with PostgreSQL() as postgresql:
        yield postgresql


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def any_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database: first SQLite, then PostgreSQL."""
    if request.param == "SQLite":
        return f"sqlite:///{tmp_path}/orders.db"
    url: str = request.getfixturevalue("postgresql").create_database()
    return url


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    """A client of the shared server."""
    with Client(server.url) as client:
        yield client


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The path of a database that does not exist yet."""
    return tmp_path / "orders.db"


_numbers = count(1)


@pytest.fixture
def new_id(request: pytest.FixtureRequest) -> str:
    """An identifier that no other test uses."""
    return f"{request.node.name}-{next(_numbers)}"
