"""Fixtures, as a chain from a server to a client."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from orders.contract import Contract, contract_path, load_contract
from tests.service import Client, Service


@pytest.fixture(scope="session")
def contract() -> Contract:
    """The contract, loaded as the server loads it."""
    return load_contract(contract_path())


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One server on an SQLite file, for all tests that do not disturb it."""
    with Service(database=tmp_path_factory.mktemp("service") / "orders.db") as service:
        yield service


@pytest.fixture(scope="session", params=["1 worker", "2 workers"])
def any_service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server with one worker, then one with two."""
    workers = request.param.split()[0]
    with Service("--workers", workers, database=tmp_path_factory.mktemp("workers") / "orders.db") as service:
        yield service


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    """A client of the shared server."""
    with Client(service.url) as client:
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
