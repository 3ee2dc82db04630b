"""Failover: the primary dies under load, and the service goes on with the standby that takes over."""

import time
from collections.abc import Iterator

import pytest

from harness.client import ACQUIRED, CREATED, Client, message
from harness.load import Load, assert_nothing_is_lost, wait_for_assigns
from harness.postgresql import PostgreSQL
from harness.server import TIMEOUT_S, ServerProcess, execute, run_orders, wait_until


@pytest.fixture
def pair() -> Iterator[tuple[PostgreSQL, PostgreSQL]]:
    """A primary, and a standby that every commit waits for."""
    with PostgreSQL() as primary, PostgreSQL(copy_of=primary) as standby:
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        primary.execute("SELECT pg_reload_conf()")
        query = "SELECT sync_state FROM pg_stat_replication"
        wait_until(lambda: primary.execute(query) == [("sync",)], "commits wait for the standby")
        yield primary, standby


def wait_until_it_goes_on(*services: ServerProcess) -> None:
    """Wait until each server takes orders again."""
    deadline = time.monotonic() + TIMEOUT_S
    for number, service in enumerate(services):
        with Client(service.url) as client:
            while (answer := client.assign(f"after-{number}-{time.monotonic()}", f"after-{number}")).status_code == 500:
                assert time.monotonic() < deadline, service.log()
                time.sleep(0.05)
            assert message(answer) == CREATED
            assert message(client.acquire(f"after-{number}")) == ACQUIRED
            assert client.http.get("/health").json() == {"status": "ok"}


def test_a_standby_takes_over_and_no_answered_change_is_lost(pair: tuple[PostgreSQL, PostgreSQL]) -> None:
    """The primary is killed while two servers are under load, and both go on with the standby (D12, D13)."""
    primary, standby = pair
    url = f"postgresql://orders@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/orders"
    with ServerProcess("--workers", "2", database=url) as one, ServerProcess(database=url) as other:
        loads = [Load(service.address, f"load-{number}", clients=4) for number, service in enumerate((one, other))]
        for load in loads:
            wait_for_assigns(load, 100)
        primary.kill()
        time.sleep(0.5)
        standby.promote()
        # The new primary follows the settings of the old one, and would wait for a standby that is not there.
        standby.execute("ALTER SYSTEM RESET synchronous_standby_names")
        standby.execute("SELECT pg_reload_conf()")
        wait_until_it_goes_on(one, other)
        for load in loads:
            wait_for_assigns(load, 50)
        for load in loads:
            load.stop()
        for load in loads:
            assert not load.lost, load.lost
            assert all('500 b\'{"message": "Unknown error"}\'' in error for error in load.errors), load.errors
        assert_nothing_is_lost(standby.url, loads)
        active = "SELECT count(*), count(DISTINCT executor_id) FROM assigned_order"
        ((rows, executors),) = execute(standby.url, f"{active} WHERE execution_status IN ('assigned', 'acquired')")
        assert rows == executors, "an executor has two active orders"
        assert one.stop() == other.stop() == 0


def test_a_server_starts_on_the_host_that_takes_writes(pair: tuple[PostgreSQL, PostgreSQL]) -> None:
    """If the URL names the standby first, the server still finds the primary; it refuses a standby alone."""
    primary, standby = pair
    url = f"postgresql://orders@127.0.0.1:{standby.port},127.0.0.1:{primary.port}/orders"
    with ServerProcess(database=url) as service, Client(service.url) as client:
        assert message(client.assign("order", "executor")) == CREATED
    ended = run_orders("serve", "--port", "0", "--database", standby.url)
    assert ended.code == 1 and "it is read-only" in ended.errors, ended
