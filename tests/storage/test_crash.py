"""Crashes under load: every change that was answered is still there (D13)."""

import time

import pytest

from harness.client import CREATED, NO_ORDERS, Client, message, not_active
from harness.load import Load, assert_nothing_is_lost, wait_for_assigns
from harness.postgresql import PostgreSQL
from harness.server import ServerProcess, execute

CRASHES = 2


@pytest.mark.parametrize("workers", ["1", "2"])
def test_answered_changes_survive_kill_9(any_database: str, workers: str) -> None:
    """All processes of the server are killed under load, twice, and every change that was answered stays (D13)."""
    loads: list[Load] = []
    for crash in range(CRASHES):
        with ServerProcess("--workers", workers, database=any_database) as service:
            load = Load(service.address, f"crash-{crash}")
            wait_for_assigns(load, 100)
            service.kill()
            load.stop()
            loads.append(load)
        assert not load.errors, load.errors
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


def test_answered_changes_survive_a_crash_of_postgresql() -> None:
    """The database is killed under load, twice; the service goes on with it and has lost no change (D13)."""
    with PostgreSQL() as postgresql, ServerProcess("--workers", "2", database=postgresql.url) as service:
        loads = []
        for crash in range(CRASHES):
            load = Load(service.address, f"crash-{crash}")
            wait_for_assigns(load, 100)
            postgresql.kill()
            time.sleep(0.2)
            postgresql.start()
            wait_for_assigns(load, 20)
            load.stop()
            loads.append(load)
            assert not load.lost, load.lost
            assert all('500 b\'{"message": "Unknown error"}\'' in error for error in load.errors), load.errors[:3]
        assert_nothing_is_lost(postgresql.url, loads)
        with Client(service.url) as client:
            assert message(client.assign("afterwards", "executor")) == CREATED
