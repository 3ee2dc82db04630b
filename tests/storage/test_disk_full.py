"""A full disk: calls fail while there is no room, and leave nothing half-written; then calls succeed again."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from harness.client import CANCELED, CREATED, Client, message
from harness.disk import filled, mounted_disk
from harness.load import Load, assert_nothing_is_lost
from harness.postgresql import NOBODY, PostgreSQL
from harness.programs import require_program
from harness.server import ServerProcess, execute

SIZE = 16 * 1024 * 1024

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system with little room."""
    require_program("mount")
    with mounted_disk(SIZE) as disk:
        yield disk


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def database(request: pytest.FixtureRequest, small_disk: Path) -> Iterator[str]:
    """The URL of a database on the small disk."""
    if request.param == "SQLite":
        yield f"sqlite:///{small_disk}/orders.db"
        return
    postgresql: PostgreSQL = request.getfixturevalue("postgresql")
    tablespace = small_disk / "tablespace"
    tablespace.mkdir()
    os.chown(tablespace, NOBODY, NOBODY)
    postgresql.execute(f"CREATE TABLESPACE small LOCATION '{tablespace}'", "postgres")
    url = postgresql.create_database("TABLESPACE small")
    yield url
    postgresql.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)", "postgres")
    postgresql.execute("DROP TABLESPACE small", "postgres")


def test_a_full_disk_loses_no_order(database: str, small_disk: Path) -> None:
    """While there is no room, assigns get 500 and leave nothing behind; then calls succeed again (D3, D13)."""
    with ServerProcess("--workers", "2", database=database) as service, Client(service.url) as client:
        assert message(client.assign("before", "executor")) == CREATED
        load = Load(service.address, "load")
        with filled(small_disk):
            refused = None
            for number in range(20000):
                answer = client.assign(f"order-{number}", f"executor-{number}", "z" * 255)
                if answer.status_code == 500:
                    refused = number
                    break
            load.stop()
            assert refused is not None, "there was room all the time"
            assert message(answer) == "Unknown error"
            held = client.acquire("executor")
            assert held.status_code in (200, 500), held.text
            stored = execute(database, f"SELECT count(*) FROM assigned_order WHERE order_id = 'order-{refused}'")
            assert stored == [(0,)], "a refused assign left its order behind"
        assert message(client.assign(f"order-{refused}", f"executor-{refused}")) == CREATED
        assert message(client.cancel("before")) == CANCELED
        assert client.http.get("/health").json() == {"status": "ok"}
        assert service.stop() == 0
        assert "internal error" in service.log()
    assert all('500 b\'{"message": "Unknown error"}\'' in error for error in load.errors), load.errors[:3]
    assert_nothing_is_lost(database, [load])
    with ServerProcess(database=database) as service, Client(service.url) as client:
        assert client.acquire(f"executor-{refused}").json()["order_profile"]["order_id"] == f"order-{refused}"


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
def test_a_disk_that_the_wal_has_filled_is_left(small_disk: Path, workers: str, restart: bool) -> None:
    """When no reader is in the way any more, the WAL that has filled the disk makes room by itself (D13)."""
    database = f"sqlite:///{small_disk}/orders.db"
    with ServerProcess("--workers", workers, database=database) as service, Client(service.url) as client:
        with closing(sqlite3.connect(small_disk / "orders.db", isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM assigned_order").fetchone()
            load = Load(service.address, "load")
            created = 0
            while (answer := client.assign(f"order-{created}", f"executor-{created}", "z" * 255)).status_code == 200:
                created += 1
            load.stop()
            assert message(answer) == "Unknown error"
            health = client.http.get("/health")
            assert (health.status_code, health.json().get("reason")) == (503, "the disk is full")
        if restart:
            service.kill()
        else:
            assert client.http.get("/health").json() == {"status": "ok"}
            assert message(client.assign("after", "executor-after")) == CREATED
    with ServerProcess("--workers", workers, database=database) as service, Client(service.url) as client:
        assert message(client.assign("last", "executor-last")) == CREATED
        assert client.http.get("/health").json() == {"status": "ok"}
    assert_nothing_is_lost(database, [load])
    assert execute(database, "SELECT count(*) FROM assigned_order WHERE zone_id LIKE 'zzz%'") == [(created,)]
