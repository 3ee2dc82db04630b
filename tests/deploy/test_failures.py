"""Failures behind nginx: servers that restart, die, hang and come back, and a PostgreSQL primary that is lost."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from harness.client import Client
from harness.load import Load, assert_nothing_is_lost, wait_for_assigns
from harness.nginx import Nginx
from harness.postgresql import PostgreSQL, free_port
from harness.server import wait_until
from tests.deploy.conftest import start
from tests.deploy.recorder import Recorder

CALLS = [
    ("PUT", "/orders/assign?order_id=order&executor_id=executor&zone_id=zone"),
    ("GET", "/order/acquire?executor_id=executor"),
    ("POST", "/order/cancel?order_id=order"),
]


def call_all(url: str) -> list[httpx.Response]:
    """Make the three calls at the same time, each on its own connection; return the responses."""

    def call(method: str, path: str) -> httpx.Response:
        return httpx.request(method, url + path, timeout=60, trust_env=False)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(call, *zip(*CALLS, strict=True)))


def check_unknown_error(response: httpx.Response) -> None:
    """Check that a response is the contract's 500 (D11)."""
    sent = f"{response.request.method} {response.request.url} was answered {response.status_code} {response.text}"
    assert response.status_code == 500 and response.json() == {"message": "Unknown error"}, sent
    assert response.headers["Content-Type"] == "application/json", response.headers
    assert response.headers["Cache-Control"] == "no-store", response.headers


@pytest.mark.parametrize("keep_alive", [True, False])
def test_a_rolling_restart_causes_no_errors(database: str, keep_alive: bool) -> None:
    """While each of two servers is restarted under load, every request is answered 200."""
    with ExitStack() as stack:
        servers = [stack.enter_context(start(database)) for _ in range(2)]
        nginx = stack.enter_context(Nginx([server.address for server in servers]))
        load = Load(nginx.address, "rolling", keep_alive=keep_alive)
        stack.callback(load.stop)
        for server in servers:
            wait_for_assigns(load, 20)
            assert server.stop() == 0, server.log()
            wait_for_assigns(load, 20)
            stack.enter_context(start(database, server.address[1]))
            # As deploy/README.md says: nginx needs time to notice that this server is back, before the next one stops.
            time.sleep(3)
        wait_for_assigns(load, 20)
        load.stop()
        assert not load.errors, load.errors
        assert not load.lost, load.lost


def test_a_killed_server_fails_only_requests_in_flight(database: str) -> None:
    """When a server is killed under load, at most one request per client fails, and no acquire does (D4)."""
    with ExitStack() as stack:
        killed, other = [stack.enter_context(start(database)) for _ in range(2)]
        nginx = stack.enter_context(Nginx([killed.address, other.address]))
        load = Load(nginx.address, "killed")
        stack.callback(load.stop)
        wait_for_assigns(load, 20)
        killed.kill()
        wait_for_assigns(load, 100)
        load.stop()
        assert not load.lost, load.lost
        assert len(load.errors) <= 8, load.errors
        assert not [error for error in load.errors if error.startswith("GET")], load.errors
        assert_nothing_is_lost(database, [load])


def test_nginx_answers_500_while_no_server_is_reachable(database: str) -> None:
    """nginx answers 500 `Unknown error` while no server is reachable, and uses a server that is back within seconds."""
    with start(database) as one, start(database) as other, Nginx([one.address, other.address]) as nginx:
        one.stop()
        other.kill()
        for _ in range(5):
            for response in call_all(nginx.url):
                check_unknown_error(response)
        assert httpx.head(nginx.url, trust_env=False).status_code == 500
        with start(database, other.address[1]), Client(nginx.url) as client:
            wait_until(lambda: client.assign("back", "executor").status_code == 200, "nginx uses the server again")
            assert {client.acquire("executor").status_code for _ in range(50)} == {200}


def test_a_standby_takes_over() -> None:
    """After the primary is killed and its standby promoted, both servers serve again, and no order is lost (D13)."""
    with ExitStack() as stack:
        primary = stack.enter_context(PostgreSQL())
        standby = stack.enter_context(PostgreSQL(copy_of=primary))
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (standby)'")
        primary.execute("SELECT pg_reload_conf()")
        state = "SELECT sync_state FROM pg_stat_replication"
        wait_until(lambda: primary.execute(state) == [("quorum",)], "commits wait for the standby")
        database = f"postgresql://orders@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/orders"
        servers = [stack.enter_context(start(database)) for _ in range(2)]
        nginx = stack.enter_context(Nginx([server.address for server in servers]))
        load = Load(nginx.address, "standby")
        stack.callback(load.stop)
        wait_for_assigns(load, 20)
        primary.kill()
        standby.promote()
        wait_for_assigns(load, 20)
        load.stop()
        assert not load.lost, load.lost
        assert_nothing_is_lost(standby.url, [load])
        assert [server.process.poll() for server in servers] == [None, None]


def test_unsent_requests_go_to_another_server() -> None:
    """While one server is unreachable, the other one answers every call, assigns included."""
    with Recorder("answer") as recorder, Nginx([("127.0.0.1", free_port()), recorder.address]) as nginx:
        for n in range(30):
            for response in call_all(nginx.url):
                assert response.status_code == 200, f"{n}: {response.request.method}: {response.text}"
        assert len(recorder.requests) == 30 * len(CALLS)


def test_only_an_acquire_is_sent_again() -> None:
    """nginx sends an unanswered acquire to another server, but not an unanswered assign or cancel (D4, D12)."""
    for (method, path), times in zip(CALLS, (1, 2, 1), strict=True):
        with Recorder("cut") as one, Recorder("cut") as other, Nginx([one.address, other.address]) as nginx:
            check_unknown_error(httpx.request(method, nginx.url + path, timeout=60, trust_env=False))
            sent = [*one.requests, *other.requests]
            assert len(sent) == times, sent


def test_a_server_that_hangs_delays_few_requests() -> None:
    """A server that never answers gets few requests, and the other server answers these acquires in the end."""
    with (
        Recorder("stay silent") as hanging,
        Recorder("answer") as other,
        Nginx([hanging.address, other.address]) as nginx,
        Client(nginx.url) as client,
    ):
        end = time.monotonic() + 3

        def poll(number: int) -> list[int]:
            statuses = []
            while time.monotonic() < end:
                statuses.append(client.acquire(f"executor-{number}").status_code)
            return statuses

        with ThreadPoolExecutor(8) as pool:
            answered = [status for statuses in pool.map(poll, range(8)) for status in statuses]
        assert set(answered) == {200}, answered
        assert 0 < len(hanging.requests) < 8, f"{len(hanging.requests)} of {len(answered)} requests"


def test_a_missing_response_becomes_a_500() -> None:
    """If the only server hangs, nginx sends it each call once and then answers 500 `Unknown error` (D11)."""
    with Recorder("stay silent") as hanging, Nginx([hanging.address]) as nginx:
        for response in call_all(nginx.url):
            check_unknown_error(response)
        assert len(hanging.requests) == len(CALLS), hanging.requests
