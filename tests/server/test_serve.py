"""Starting, stopping and supervising: readiness, signals, workers that die."""

import asyncio
import os
import signal
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from harness.client import CREATED, NO_ORDERS, Client, message
from harness.load import Load
from harness.processes import end_group, start
from harness.server import ServerProcess, execute, url_of, wait_until
from orders.contract import Contract
from orders.http.app import App
from orders.http.exchange import Request
from orders.http.responses import Response, message_response
from orders.lifecycle import Orders
from orders.server.connections import Server
from orders.server.sockets import listen
from orders.storage.database import DatabaseURL

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def children(pid: int) -> list[int]:
    """Return the process ids of a process's children."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    """Return whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("workers", ["1", "3"])
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server(database: Path, workers: str, signal_number: signal.Signals) -> None:
    """SIGTERM and SIGINT end the server with 0, its port is free and its processes are gone."""
    with ServerProcess("--workers", workers, database=database) as service, Client(service.url) as client:
        assert message(client.assign("order", "executor")) == CREATED
        processes = children(service.process.pid)
        assert service.stop(signal_number) == 0, service.log()
        assert "Traceback" not in service.log()
        assert not [process for process in processes if is_running(process)]
        with pytest.raises(ConnectionRefusedError):
            service.connect()
    assert not (database.parent / "orders.db-wal").exists(), "the database was not closed"


@pytest.mark.parametrize("keep_alive", [True, False])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_stop_under_load_loses_no_answer(database: Path, workers: str, keep_alive: bool) -> None:
    """Every request that was sent before the stop is answered; what was answered is in the database (D13).

    A client that connects at the very moment of the stop may be refused or reset, and nothing is done for it.
    """
    with ServerProcess("--workers", workers, database=database) as service:
        load = Load(service.address, "stop", keep_alive=keep_alive)
        time.sleep(0.7)
        assert service.stop() == 0, service.log()
        load.stop()
    assert not load.errors, load.errors
    assert not (keep_alive and load.lost), load.lost
    assert len(load.created) > 20, "there was no load to speak of"
    stored = {order for (order,) in execute(database, "SELECT order_id FROM assigned_order")}
    assert stored == set(load.created)


def test_a_stop_does_not_wait_for_idle_connections(database: Path) -> None:
    """Connections that send nothing do not hold the server up."""
    with ServerProcess(database=database) as service:
        connections = [service.connect() for _ in range(5)]
        connections[0].sendall(b"GET /heal")
        begun = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - begun < 5
        for connection in connections:
            connection.close()


def connections_of(pid: int) -> int:
    """Return how many connections a process has open."""
    return sum(
        connection.status == psutil.CONN_ESTABLISHED for connection in psutil.Process(pid).net_connections("tcp")
    )


def test_the_workers_share_the_connections(database: Path) -> None:
    """A burst of connections is spread over all workers."""
    with ServerProcess("--workers", "2", database=database) as service:
        workers = children(service.process.pid)
        assert len(workers) == 2
        bursts: list[list[int]] = []
        # Which worker runs is up to the system, so one of them may have to take a burst alone; not all bursts.
        while len(bursts) < 10 and not (bursts and min(bursts[-1]) >= 6):
            with ExitStack() as crowd:
                for _ in range(60):
                    crowd.enter_context(service.connect())
                wait_until(lambda: sum(map(connections_of, workers)) == 60, "all connections are accepted")
                bursts.append([connections_of(worker) for worker in workers])
            wait_until(lambda: sum(map(connections_of, workers)) == 0, "all connections are closed")
        assert min(bursts[-1]) >= 6, f"the connections went {bursts}"


def app_with(answer: Response, contract: Contract) -> App:
    """Return an app that answers everything alike."""

    async def handle(request: Request) -> Response:
        return answer

    app = App(contract, Orders(DatabaseURL.parse("sqlite:///:memory:")))
    app.handler = handle
    return app


def test_servers_on_one_socket_take_turns(contract: Contract) -> None:
    """Of the connections that wait, each of two servers takes as many as it may at once, and leaves the rest."""

    async def scenario() -> list[bytes]:
        [listener] = listen("127.0.0.1", 0)
        loop = asyncio.get_running_loop()
        with ExitStack() as crowd:
            clients = [crowd.enter_context(socket.create_connection(listener.getsockname())) for _ in range(10)]
            servers = [
                Server(app_with(answer, contract), [own], idle_timeout_s=30, accept_at_once=1)
                for own, answer in [(listener.dup(), message_response(404, "")), (listener, message_response(400, ""))]
            ]
            for client in clients:
                client.setblocking(False)
                client.sendall(REQUEST)
            answers = [await loop.sock_recv(client, 1000) for client in clients]
            for server in servers:
                await server.stop(quiet_s=0)
        return answers

    answers = asyncio.run(scenario())
    assert sum(b" 404 " in answer for answer in answers) == 5, answers
    assert sum(b" 400 " in answer for answer in answers) == 5, answers


def test_a_stop_answers_what_has_just_arrived(contract: Contract) -> None:
    """A request that was sent to an idle server before the stop is answered, on an old connection and a new one.

    A request that is sent during the stop is answered, too, and the client told to use another connection.
    """

    async def scenario() -> list[bytes]:
        listeners = listen("127.0.0.1", 0)
        server = Server(app_with(message_response(404, ""), contract), listeners, idle_timeout_s=30)
        address = listeners[0].getsockname()
        loop = asyncio.get_running_loop()
        with ExitStack() as clients:

            def connect() -> socket.socket:
                connection = clients.enter_context(socket.create_connection(address))
                connection.setblocking(False)
                return connection

            old, idle = connect(), connect()
            await asyncio.sleep(0.5)
            new = connect()
            for connection in (old, new):
                connection.sendall(REQUEST)
            stop = asyncio.create_task(server.stop(quiet_s=2.0))
            answers = [await loop.sock_recv(connection, 1000) for connection in (old, new)]
            idle.sendall(REQUEST)
            answers.append(await loop.sock_recv(idle, 1000))
            await stop
            return answers

    answers = asyncio.run(scenario())
    assert all(b"404 Not Found" in answer for answer in answers), answers
    assert b"Connection: close" in answers[-1], answers


def test_a_worker_that_dies_is_replaced(database: Path) -> None:
    """A killed worker costs the connections it had; the others serve on, and soon there are as many as before."""
    with ServerProcess("--workers", "2", database=database) as service:
        before = children(service.process.pid)
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: len(set(children(service.process.pid)) - {before[0]}) == 2, "there are two workers again")
        wait_until(lambda: "starting another" in service.log(), "the log says so")
        for n in range(20):
            with Client(service.url) as client:
                assert message(client.acquire(f"executor-{n}")) == NO_ORDERS
        assert service.stop() == 0, service.log()


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_worker_shuts_nobody_out(database: Path, signal_number: signal.Signals) -> None:
    """A worker that is told to stop is replaced. New clients are served all the time."""
    with ServerProcess("--workers", "2", database=database) as service:
        before = children(service.process.pid)
        os.kill(before[0], signal_number)
        wait_until(lambda: serves(service) and before[0] not in children(service.process.pid), "the worker has ended")
        wait_until(lambda: serves(service) and len(children(service.process.pid)) == 2, "there is another worker")
        assert service.stop() == 0, service.log()


def serves(service: ServerProcess) -> bool:
    """Return whether a new client gets an answer."""
    with Client(service.url) as client:
        return message(client.acquire("nobody")) == NO_ORDERS


def test_workers_do_not_outlive_their_parent(database: Path) -> None:
    """When only the parent is killed, each worker stops by itself, also while another one hangs. The port is free."""
    with ServerProcess("--workers", "3", database=database) as service:
        *others, hanging = children(service.process.pid)
        os.kill(hanging, signal.SIGSTOP)
        os.kill(service.process.pid, signal.SIGKILL)
        service.process.wait(10)
        wait_until(lambda: not any(map(is_running, others)), "the other workers have ended")
        os.kill(hanging, signal.SIGCONT)
        wait_until(lambda: not is_running(hanging), "the worker that hung has ended")
        with pytest.raises(ConnectionRefusedError):
            service.connect()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_that_cannot_say_where_it_listens_exits_with_1(database: Path, workers: str) -> None:
    """If the first line cannot be written, the server says so in one line and leaves no process behind."""
    command = [
        sys.executable,
        "-m",
        "orders",
        "serve",
        "--port",
        "0",
        "--workers",
        workers,
        "--database",
        url_of(database),
    ]
    with open("/dev/full", "w") as full, start(command, stdout=full) as process:
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 1, errors
        assert errors == "orders: cannot write to standard output: No space left on device\n"
        assert not end_group(process.pid), "a process is left"


def test_two_servers_share_a_database(database: Path) -> None:
    """Several servers on one file keep the same order book (D12)."""
    with (
        ServerProcess(database=database) as one,
        ServerProcess("--workers", "2", database=database) as other,
        Client(one.url) as at_one,
        Client(other.url) as at_other,
    ):
        assert message(at_one.assign("order", "executor")) == CREATED
        assert at_other.assign("order", "other").status_code == 400
        assert at_other.acquire("executor").content == at_one.acquire("executor").content


def test_orders_are_there_after_a_restart(database: Path) -> None:
    """A stopped server's orders are there when it is started again (D13)."""
    with ServerProcess(database=database) as service, Client(service.url) as client:
        client.assign("order", "executor")
        before = client.acquire("executor").content
        service.stop()
    with ServerProcess(database=database) as service, Client(service.url) as client:
        assert client.acquire("executor").content == before
        assert client.assign("order", "executor").status_code == 400


def test_memory_is_forgotten(tmp_path: Path) -> None:
    """`:memory:` leaves no file, and a server that is started again knows nothing."""
    for _ in range(2):
        with ServerProcess("--database", "sqlite:///:memory:", cwd=tmp_path) as service, Client(service.url) as client:
            assert message(client.assign("order", "executor")) == CREATED
            assert client.acquire("executor").json()["order_profile"]["order_id"] == "order"
            service.stop()
    assert not list(tmp_path.iterdir())


def test_more_connections_than_the_usual_limit_of_files(database: Path) -> None:
    """The server allows itself as many open files as the system does, whatever the shell's soft limit is."""
    with ServerProcess(database=database, wrapper=["sh", "-c", 'ulimit -S -n 64; exec "$0" "$@"']) as service:
        connections = [service.connect() for _ in range(200)]
        with Client(service.url) as client:
            assert client.http.get("/health").status_code == 200
        for connection in connections:
            connection.close()
