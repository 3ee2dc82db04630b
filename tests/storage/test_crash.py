"""SIGKILL under load: whatever was answered is still there (D13)."""

import time

import pytest

from harness.client import CREATED, NO_ORDERS, Client, message, not_active
from harness.load import Load, assert_nothing_is_lost
from harness.postgresql import PostgreSQL
from harness.server import ServerProcess, execute

CRASHES = 2


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_was_answered_survives_kill_9(any_database: str, workers: str) -> None:
    """The whole process group is killed, several times; every answer given before still holds afterwards (D13)."""
    loads: list[Load] = []
    for crash in range(CRASHES):
        with ServerProcess("--workers", workers, database=any_database) as service:
            load = Load(service.address, f"crash-{crash}")
            time.sleep(0.7)
            service.kill()
            load.stop()
            loads.append(load)
        assert not load.errors, load.errors
        assert len(load.created) > 20, "there was no load to speak of"
    if any_database.startswith("sqlite:"):
        assert execute(any_database, "PRAGMA integrity_check") == [("ok",)]
    assert_nothing_is_lost(any_database, loads)
    with ServerProcess("--workers", workers, database=any_database) as service, Client(service.url) as client:
        last = loads[-1]
        for order in last.cancelled:
            assert message(client.cancel(order)) == not_active(order)
        for executor in set(last.created.values()):
            response = client.acquire(executor)
            if message(response) != NO_ORDERS:
                order = response.json()["order_profile"]["order_id"]
                assert order not in last.cancelled
                assert last.acquired.get(order, response.content) == response.content


def test_what_was_answered_survives_a_crash_of_postgresql() -> None:
    """The database is killed under load, several times; the service goes on with it, and has lost nothing (D13)."""
    with PostgreSQL() as postgresql, ServerProcess("--workers", "2", database=postgresql.url) as service:
        loads = []
        for crash in range(CRASHES):
            load = Load(service.address, f"crash-{crash}")
            time.sleep(0.7)
            postgresql.kill()
            time.sleep(0.2)
            postgresql.start()
            time.sleep(0.3)
            load.stop()
            loads.append(load)
            assert not load.lost, load.lost
            assert all('500 b\'{"message": "Unknown error"}\'' in error for error in load.errors), load.errors[:3]
            assert len(load.created) > 20, "there was no load to speak of"
        assert_nothing_is_lost(postgresql.url, loads)
        with Client(service.url) as client:
            assert message(client.assign("afterwards", "executor")) == CREATED
