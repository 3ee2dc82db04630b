"""Fixtures: a database, two servers on it, and nginx in front of the servers."""

from collections.abc import Iterator

import pytest

from harness.nginx import Nginx
from harness.postgresql import PostgreSQL
from harness.server import ServerProcess


@pytest.fixture
def database(postgresql: PostgreSQL) -> str:
    """The URL of an empty PostgreSQL database."""
    return postgresql.create_database()


@pytest.fixture(scope="module")
def servers(postgresql: PostgreSQL) -> Iterator[list[ServerProcess]]:
    """Two servers on one database, shared by all tests that do not disturb them."""
    database = postgresql.create_database()
    with start(database) as one, start(database) as other:
        yield [one, other]


@pytest.fixture(scope="module")
def nginx(servers: list[ServerProcess]) -> Iterator[Nginx]:
    """nginx in front of the two servers."""
    with Nginx([server.address for server in servers]) as nginx:
        yield nginx


def start(database: str, port: int = 0) -> ServerProcess:
    """Start a server on a database, with the options that it has behind nginx."""
    return ServerProcess("--no-access-log", "--port", str(port), database=database)
