"""SIGKILL under load: whatever was answered is still there (D13)."""

import json
import time
from pathlib import Path

import pytest

from tests.load import Load
from tests.service import NO_ORDERS, Client, Service, execute, message, not_active

CRASHES = 4


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_was_answered_survives_kill_9(database: Path, workers: str) -> None:
    """The whole process group is killed, several times; every answer given before still holds afterwards (D13)."""
    loads: list[Load] = []
    for crash in range(CRASHES):
        with Service("--workers", workers, database=database) as service:
            load = Load(service.address, f"crash-{crash}")
            time.sleep(0.7)
            service.kill()
            load.stop()
            loads.append(load)
        assert not load.errors, load.errors
        assert len(load.created) > 20, "there was no load to speak of"
    assert execute(database, "PRAGMA integrity_check") == [("ok",)]
    rows = {
        order: (executor, status, acquire_time)
        for order, executor, status, acquire_time in execute(
            database, "SELECT order_id, executor_id, execution_status, acquire_time FROM assigned_order"
        )
    }
    for load in loads:
        for order, executor in load.created.items():
            assert order in rows, f"{order} was answered and is lost"
            assert rows[order][0] == executor
        for order in load.cancelled:
            assert rows[order][1] == "cancelled", f"the cancel of {order} was answered and is lost"
        for order, body in load.acquired.items():
            assert rows[order][2] == json.loads(body)["order_profile"]["acquire_time"], (
                f"{order} was acquired: {body!r}"
            )
    with Service("--workers", workers, database=database) as service, Client(service.url) as client:
        last = loads[-1]
        for order in last.cancelled:
            assert message(client.cancel(order)) == not_active(order)
        for executor in set(last.created.values()):
            response = client.acquire(executor)
            if message(response) != NO_ORDERS:
                order = response.json()["order_profile"]["order_id"]
                assert order not in last.cancelled
                assert last.acquired.get(order, response.content) == response.content
