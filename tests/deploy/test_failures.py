"""Servers that stop, are restarted, are killed, hang and come back, behind nginx and under load."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from harness.client import CREATED, Client, message
from harness.load import Load, assert_nothing_is_lost
from harness.nginx import Nginx
from harness.postgresql import PostgreSQL, free_port
from tests.deploy.conftest import start
from tests.deploy.recorder import Recorder

CALLS = [
    ("PUT", "/orders/assign?order_id=order&executor_id=executor&zone_id=zone"),
    ("GET", "/order/acquire?executor_id=executor"),
    ("POST", "/order/cancel?order_id=order"),
]
BACK_S = 10


def call_all(url: str) -> list[httpx.Response]:
    """Make the three calls at the same time, each on a connection of its own; return the answers."""

    def call(method: str, path: str) -> httpx.Response:
        return httpx.request(method, url + path, timeout=60, trust_env=False)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(call, *zip(*CALLS, strict=True)))


def check_unknown_error(answer: httpx.Response) -> None:
    """Check that an answer is the 500 of the contract (D11)."""
    sent = f"{answer.request.method} {answer.request.url} was answered {answer.status_code} {answer.text}"
    assert answer.status_code == 500 and answer.json() == {"message": "Unknown error"}, sent
    assert answer.headers["Content-Type"] == "application/json", answer.headers
    assert answer.headers["Cache-Control"] == "no-store", answer.headers


@pytest.mark.parametrize("keep_alive", [True, False])
def test_a_rolling_restart_costs_no_client_an_error(database: str, keep_alive: bool) -> None:
    """Each of two servers is stopped and started again under load, and every request is answered."""
    with ExitStack() as stack:
        servers = [stack.enter_context(start(database)) for _ in range(2)]
        nginx = stack.enter_context(Nginx([server.address for server in servers]))
        load = Load(nginx.address, "rolling", keep_alive=keep_alive)
        stack.callback(load.stop)
        for server in servers:
            time.sleep(0.7)
            assert server.stop() == 0, server.log()
            time.sleep(0.3)
            stack.enter_context(start(database, server.address[1]))
            # As README.md says: nginx has to notice that this one is back, before the next one goes.
            time.sleep(3)
        created = len(load.created)
        time.sleep(0.5)
        load.stop()
        assert not load.errors, load.errors
        assert not load.lost, load.lost
        assert len(load.created) > created, "the clients did not go on"


def test_a_killed_server_costs_only_what_was_in_its_hands(database: str) -> None:
    """Under load, nobody loses more than the request on its way, and that only if it is an assign or a cancel (D4)."""
    with ExitStack() as stack:
        doomed, other = [stack.enter_context(start(database)) for _ in range(2)]
        nginx = stack.enter_context(Nginx([doomed.address, other.address]))
        load = Load(nginx.address, "killed")
        stack.callback(load.stop)
        time.sleep(0.7)
        doomed.kill()
        created = len(load.created)
        time.sleep(1)
        load.stop()
        assert not load.lost, load.lost
        assert len(load.errors) <= 8, load.errors
        assert not [error for error in load.errors if error.startswith("GET")], load.errors
        assert len(load.created) > created, "the clients did not go on"
        assert_nothing_is_lost(database, [load])


def test_without_a_server_the_answer_is_a_500_until_one_is_back(database: str) -> None:
    """When no server can be reached, nginx answers `Unknown error`; when one is back, it is used within seconds."""
    with start(database) as one, start(database) as other, Nginx([one.address, other.address]) as nginx:
        one.stop()
        other.kill()
        for _ in range(5):
            for answer in call_all(nginx.url):
                check_unknown_error(answer)
        assert httpx.head(nginx.url, trust_env=False).status_code == 500
        with start(database, other.address[1]), Client(nginx.url) as client:
            deadline = time.monotonic() + BACK_S
            while (answer := client.assign("back", "executor")).status_code == 500:
                assert time.monotonic() < deadline, f"still {answer.text} after {BACK_S} s"
                time.sleep(0.1)
            assert message(answer) == CREATED
            assert {client.acquire("executor").status_code for _ in range(50)} == {200}


def test_a_standby_takes_over() -> None:
    """When PostgreSQL's primary is lost and its standby promoted, both servers go on, and nothing is lost (D13)."""
    with ExitStack() as stack:
        primary = stack.enter_context(PostgreSQL())
        standby = stack.enter_context(PostgreSQL(copy_of=primary))
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (standby)'")
        primary.execute("SELECT pg_reload_conf()")
        deadline = time.monotonic() + BACK_S
        while primary.execute("SELECT sync_state FROM pg_stat_replication") != [("quorum",)]:
            assert time.monotonic() < deadline, primary.log()
            time.sleep(0.05)
        database = f"postgresql://orders@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/orders"
        servers = [stack.enter_context(start(database)) for _ in range(2)]
        nginx = stack.enter_context(Nginx([server.address for server in servers]))
        load = Load(nginx.address, "standby")
        stack.callback(load.stop)
        time.sleep(1)
        primary.kill()
        before = len(load.created)
        assert before, "there was no load to speak of"
        standby.promote()
        deadline = time.monotonic() + 2 * BACK_S
        while len(load.created) < before + 20:
            assert time.monotonic() < deadline, f"nothing is assigned: {load.errors[-3:]}"
            time.sleep(0.05)
        load.stop()
        assert not load.lost, load.lost
        assert_nothing_is_lost(standby.url, [load])
        assert [server.process.poll() for server in servers] == [None, None]


def test_what_could_not_be_sent_goes_to_another_server() -> None:
    """While one server cannot be reached, every call is answered by the other one, an assign too."""
    with Recorder("answer") as recorder, Nginx([("127.0.0.1", free_port()), recorder.address]) as nginx:
        for n in range(30):
            for answer in call_all(nginx.url):
                assert answer.status_code == 200, f"{n}: {answer.request.method}: {answer.status_code} {answer.text}"
        assert len(recorder.requests) == 30 * len(CALLS)


def test_only_an_acquire_is_sent_again() -> None:
    """An assign or a cancel that was sent and not answered is not sent again; an acquire is (D4, D12)."""
    for (method, path), times in zip(CALLS, (1, 2, 1), strict=True):
        with Recorder("cut") as one, Recorder("cut") as other, Nginx([one.address, other.address]) as nginx:
            check_unknown_error(httpx.request(method, nginx.url + path, timeout=60, trust_env=False))
            sent = [*one.requests, *other.requests]
            assert len(sent) == times, sent


def test_a_server_that_hangs_keeps_few_waiting() -> None:
    """A server that accepts and never answers gets few requests, and its acquires go to the other one in the end."""
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
            answers = [status for statuses in pool.map(poll, range(8)) for status in statuses]
        assert set(answers) == {200}, answers
        assert 0 < len(hanging.requests) < 8, f"{len(hanging.requests)} of {len(answers)} requests"


def test_an_answer_that_does_not_come_is_a_500() -> None:
    """When the only server hangs, each call is answered `Unknown error` in the end, having been sent once (D11)."""
    with Recorder("stay silent") as hanging, Nginx([hanging.address]) as nginx:
        for answer in call_all(nginx.url):
            check_unknown_error(answer)
        assert len(hanging.requests) == len(CALLS), hanging.requests
